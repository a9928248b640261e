package uninstall

import (
	"fmt"
	"os"
	"testing"

	"github.com/podtap/podtap/internal/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") == "VERSION" { // we are the plugin that is installed
		fmt.Println(`{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}`)
		return
	}
	lab.Main(m.Run, false)
}
