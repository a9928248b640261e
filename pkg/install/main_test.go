package install

import (
	"fmt"
	"os"
	"testing"

	"github.com/podtap/podtap/internal/lab"
)

// childDir, in the environment, makes this binary an installer at work there.
const childDir = "PODTAP_INSTALL_CHILD"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv("CNI_COMMAND") == "VERSION": // we are the plugin that is installed
		fmt.Println(`{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}`)
	case os.Getenv(childDir) != "":
		os.Exit(installOnce(os.Getenv(childDir)))
	default:
		lab.Main(m.Run, false)
	}
}
