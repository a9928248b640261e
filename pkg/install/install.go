// Package install puts podtap on a node: the plugin's binary into the folder of
// network plugins, and podtap's entry into the network configuration that the
// runtime uses, and it keeps both there. Network plugins rewrite their
// configuration, arrive late and are replaced by others; so it is a loop that looks
// at what is there, makes it what it should be, and reads it back. Every step is
// one rename: whoever is killed in between leaves the old or the new, and the next
// one goes on from there. It knows neither Kubernetes nor the kernel.
package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/podtap/podtap/api/node"
)

// pluginType is the type of podtap's entry in a chain, and the name of its binary.
const pluginType = "podtap"

// Config is where things are on a node. All paths are those of the calling process.
type Config struct {
	Plugin      string // the binary to install
	BinDir      string // the runtime's folder of network plugins
	ConfDir     string // the runtime's folder of network configurations
	Settings    string // the file that has the entry's settings
	AgentSocket string // where the plugin finds the node's agent
	RunDir      string // podtap's own, which a reboot empties
	// Loaded asks the runtime for the network that it uses; nil where it cannot
	// be asked.
	Loaded func(context.Context) (Loaded, error)
	// AtWork is called once, when no other podtapd of the node is at work any more;
	// nil for nothing.
	AtWork func()
	// InFlight is how long Unchain waits for pods whose setup has begun; 0 for the
	// default of 10 s.
	InFlight time.Duration
	// Changed is told each new status; nil for nobody.
	Changed func(node.Install)
	Log     *slog.Logger
}

// Loaded is the network that the runtime has read from its folder.
type Loaded struct {
	Known   bool // some runtimes do not tell
	Network string
	Chain   []string // the types of its plugins
	First   []byte   // the first plugin's element; nil where the runtime does not tell
	Entry   []byte   // podtap's element; nil where the runtime does not tell
}

// Installer keeps podtap installed on a node.
type Installer struct {
	conf Config
	pace pace

	mu      sync.Mutex
	status  node.Install
	digest  string
	chained time.Time

	// What follows belongs to Run.
	entry     []byte // the last good one
	seenEntry []byte // the last one that was seen in its place
	confirmed bool   // the runtime has loaded it
	conflict  conflict
	failures  int       // in a row
	overtaken int       // how often in a row somebody else was faster
	nudged    time.Time // when the runtime was last told again to load
}

// pace is how fast things are done.
type pace struct {
	resync    time.Duration // between two looks at a node that is well
	retry     time.Duration // after the first failure; twice that after the next
	retryMost time.Duration
	load      time.Duration // how long the runtime may take to load a configuration
	conflict  conflictPace
}

var defaultPace = pace{
	resync: 30 * time.Second, retry: time.Second, retryMost: 30 * time.Second, load: 5 * time.Second,
	conflict: conflictPace{window: time.Minute, rewrites: 5, quiet: 10 * time.Second, slow: 30 * time.Second},
}

// maxOvertaken is how often in a row somebody else may be faster before that is a
// conflict.
const maxOvertaken = 5

// New makes an installer; Run has it work.
func New(c Config) *Installer {
	return &Installer{conf: c, pace: defaultPace, status: node.Install{State: node.StateStarting, Since: time.Now()}}
}

// Status is what there is to say now.
func (i *Installer) Status() node.Install {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.status
}

// Digest is the SHA-256 of the installed plugin; "" before there is one.
func (i *Installer) Digest() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.digest
}

// ChainedSince is since when all new pods of the node have gone through podtap;
// zero while they do not.
func (i *Installer) ChainedSince() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.chained
}

// Run keeps podtap installed until ctx ends, and leaves everything as it is then:
// an upgrade, a reboot and an eviction look alike. It returns nil at ctx's end, and
// an error where only a new process can help.
func (i *Installer) Run(ctx context.Context) error {
	unlock, err := i.takeTurn(ctx)
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	if i.conf.AtWork != nil {
		i.conf.AtWork()
	}
	w := newWatch(i.conf, i.conf.Log)
	defer w.close()
	for _, folder := range []string{i.conf.BinDir, i.conf.ConfDir} {
		if err := removeTemporaries(folder); err != nil {
			i.conf.Log.Warn("what a podtapd that was killed has left stays", "error", err)
		}
	}
	for ctx.Err() == nil {
		// Armed first: what changes after the look wakes us again.
		w.arm()
		i.conflict.lastChange = w.lastChange()
		if deleted(i.conf.ConfDir) || deleted(i.conf.BinDir) {
			return errors.New("a folder of the runtime's was deleted and perhaps made anew; podtapd has to start again to see that")
		}
		status, wait := i.reconcile(ctx)
		if ctx.Err() != nil {
			break // what was cut short says nothing
		}
		i.publish(status)
		w.wait(ctx, wait)
	}
	return nil
}

// reconcile looks at the node once, and brings it as far as it will go. It says
// how things are, and when to look again if nothing happens before.
func (i *Installer) reconcile(ctx context.Context) (node.Install, time.Duration) {
	status := i.Status()
	status.Message, status.Settings = "", ""
	if err := i.readSettings(); err != nil {
		status.Settings = err.Error()
	}
	err := i.installBoth(ctx, &status)
	status.Rewrites = i.conflict.total
	if err != nil {
		status.Message = err.Error()
	}
	switch {
	case err == nil && status.Settings != "":
		i.failures = 0
		status.State = node.StateFailing
		status.Message = "the settings are not valid; the last good ones are in force: " + status.Settings
		return status, i.pace.resync
	case err == nil:
		i.failures = 0
		status.State = node.StateReady
		return status, i.pace.resync
	case errors.Is(err, errConflict):
		status.State = node.StateConflict
		return status, min(i.pace.conflict.quiet/2, 2*time.Second)
	case errors.Is(err, errNoNetwork):
		status.State = node.StateNoNetwork
	case errors.Is(err, errUnsupported):
		status.State = node.StateUnsupported
	case errors.Is(err, errChanged) && i.overtaken < maxOvertaken:
		i.overtaken++
		status.Message = "" // not a failure yet
		return status, i.pace.retry / 5
	case errors.Is(err, errChanged):
		i.conflict.open, i.conflict.last = true, time.Now()
		status.State, status.Message = node.StateConflict, errConflict.Error()
		return status, i.pace.conflict.quiet / 2
	default:
		status.State = node.StateFailing
	}
	wait := min(i.pace.retry<<min(i.failures, 10), i.pace.retryMost)
	i.failures++
	return status, wait
}

// installBoth installs the plugin, and chains it. Where the new plugin cannot be
// installed and an older one is there, that goes on being chained. Where there is
// none, the entry goes: with it, no pod of the node would start.
func (i *Installer) installBoth(ctx context.Context, status *node.Install) error {
	sum, failed := installPlugin(i.conf.Plugin, i.conf.BinDir)
	if failed == nil {
		i.mu.Lock()
		i.digest = sum
		i.mu.Unlock()
		return i.chain(ctx, status)
	}
	if try(filepath.Join(i.conf.BinDir, pluginType)) == nil {
		return errors.Join(failed, i.chain(ctx, status))
	}
	i.unchained()
	i.seenEntry = nil
	if _, err := unchainAll(i.conf); err != nil {
		return errors.Join(failed, err)
	}
	if err := multusOf(i.conf.ConfDir).calledPodtap(); err != nil {
		return fmt.Errorf("%w; no pod starts until then: %w", failed, err)
	}
	return fmt.Errorf("%w; until it is there, podtap is not chained, so that pods start", failed)
}

// chain puts the entry into the network that the runtime uses, and reads it back.
func (i *Installer) chain(ctx context.Context, status *node.Install) error {
	n, skipped, err := discover(i.conf.ConfDir)
	status.File, status.Network, status.Chain = "", "", nil
	if err != nil {
		i.unchained()
		return errors.Join(err, skipped)
	}
	describe(status, n)
	if i.entry == nil {
		if n.entries() > 0 {
			return fmt.Errorf("the settings are not valid; podtap's entry stays as it was: %s", status.Settings)
		}
		return fmt.Errorf("the settings are not valid; podtap is not chained: %s", status.Settings)
	}
	drifted := i.seenEntry != nil && bytes.Equal(i.seenEntry, i.entry)
	if !n.has(i.entry) {
		if n.entries() == 0 {
			i.unchained()
		}
		i.conflict.noticed(time.Now())
		if err := i.write(ctx, n, drifted); err != nil {
			return err
		}
		if n, skipped, err = discover(i.conf.ConfDir); err != nil {
			return errors.Join(err, skipped)
		}
		if !n.has(i.entry) {
			return errChanged
		}
	}
	describe(status, n)
	i.seenEntry, i.overtaken = i.entry, 0
	if skipped != nil {
		i.conf.Log.Warn("containerd may look no further than this configuration, and use none", "error", skipped)
	}
	if err := i.loaded(ctx, n); err != nil {
		return err
	}
	i.isChained()
	return i.conflict.over(time.Now(), i.pace.conflict)
}

func describe(status *node.Install, n *network) {
	status.File, status.Network, status.Chain = n.base(), n.name, n.types()
}

// publish makes a status known, if it is a new one.
func (i *Installer) publish(s node.Install) {
	i.mu.Lock()
	was := i.status
	if s.State != was.State {
		s.Since = time.Now()
	}
	i.status = s
	i.mu.Unlock()
	if s.State == was.State && s.Message == was.Message && s.Settings == was.Settings && s.File == was.File && slices.Equal(s.Chain, was.Chain) {
		return
	}
	level := slog.LevelInfo
	if s.Message != "" {
		level = slog.LevelWarn
	}
	i.conf.Log.Log(context.Background(), level, "installation", "state", s.State, "file", s.File, "network", s.Network, "chain", s.Chain, "message", s.Message)
	if i.conf.Changed != nil {
		i.conf.Changed(s)
	}
}
