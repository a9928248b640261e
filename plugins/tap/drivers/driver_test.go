package drivers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/go-cni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// annotations is the capability by which both runtimes hand over a pod's annotations.
const annotations = "io.kubernetes.cri.pod-annotations"

// driver is a runtime's way of calling CNI plugins.
type driver interface {
	// load reads the configuration anew, where the driver leaves that to its runtime.
	load() error
	add(pod) (outcome, error)
	check(pod) error
	remove(pod) error
	status() error
	gc(valid []pod) error
}

// pod is a sandbox as a runtime knows it.
type pod struct {
	ID, UID, Namespace, Name string
	NetNS                    string // path; empty where the runtime has lost it
	Annotations              map[string]string
}

// outcome is what a runtime is told of a pod that it has added.
type outcome struct {
	IPs        []string               // what it takes for the pod's addresses
	Network    string                 // ocicni's name of the network and the interface
	Interfaces map[string]*cni.Config // go-cni's reading of the result
	Result     *current.Result
}

// request is what a test asks of a runtime.
type request struct {
	Verb  string
	Pod   pod
	Valid []pod
}

// reply is the runtime's answer.
type reply struct {
	Outcome outcome
	Failure *failure
}

// failure is an error as the driver's caller gets it.
type failure struct {
	Text string
	Code uint // CNI's; 0 where the error is no plugin's
}

func (f *failure) Error() string { return f.Text }

// place is the environment variable that makes this program a runtime: its name and
// its folders of configurations and plugins.
const place = "PODTAP_DRIVERS_RUNTIME"

// serve is the runtime. It ends when nobody can ask it any more.
func serve(in io.Reader, out io.Writer) error {
	words := strings.Fields(os.Getenv(place))
	if len(words) != 3 {
		return fmt.Errorf("%s is %q", place, words)
	}
	open := map[string]func(confDir, binDir string) (driver, error){"containerd": newContainerd, "CRI-O": newCRIO}[words[0]]
	d, err := open(words[1], words[2])
	if err != nil {
		return err
	}
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q request
		if err := questions.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a reply
		if a.Outcome, err = do(d, q); err != nil {
			a.Failure = &failure{Text: err.Error()}
			if plugin := (*types.Error)(nil); errors.As(err, &plugin) {
				a.Failure.Code = plugin.Code
			}
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

func do(d driver, q request) (outcome, error) {
	switch q.Verb {
	case "load":
		return outcome{}, d.load()
	case "add":
		return d.add(q.Pod)
	case "check":
		return outcome{}, d.check(q.Pod)
	case "remove":
		return outcome{}, d.remove(q.Pod)
	case "status":
		return outcome{}, d.status()
	case "gc":
		return outcome{}, d.gc(q.Valid)
	}
	return outcome{}, fmt.Errorf("no verb is called %q", q.Verb)
}
