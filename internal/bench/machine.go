package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
)

// machine says where and when something is measured. What cannot be found out is
// left unsaid.
func machine() [][2]string {
	facts := [][2]string{{"date", time.Now().UTC().Format("2006-01-02 15:04 MST")}}
	if model := field("/proc/cpuinfo", "model name"); model != "" {
		facts = append(facts, [2]string{"processor", model})
	}
	facts = append(facts, [2]string{"CPUs", fmt.Sprint(runtime.NumCPU())})
	var kib int
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d kB", &kib); err == nil {
		facts = append(facts, [2]string{"memory", fmt.Sprintf("%.1f GiB", float64(kib)/(1<<20))})
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		release, _, _ := bytes.Cut(name.Release[:], []byte{0})
		facts = append(facts, [2]string{"kernel", "Linux " + string(release) + ", " + runtime.GOARCH})
	}
	user := "an ordinary user, in a user namespace"
	if lab.Privileged() {
		user = "root"
	}
	facts = append(facts, [2]string{"Go", runtime.Version()}, [2]string{"run by", user})
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		minute, _, _ := strings.Cut(string(load), " ")
		facts = append(facts, [2]string{"load before it began", minute})
	}
	return facts
}

// field is the value of the first line of a file in /proc with that name.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// binary is what the size of a program comes from.
type binary struct {
	bytes      int64
	kubernetes bool // it links the Kubernetes client
}

func inspect(path string) (binary, error) {
	file, err := os.Stat(path)
	if err != nil {
		return binary{}, err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return binary{}, fmt.Errorf("read what %s is built from: %w", path, err)
	}
	b := binary{bytes: file.Size()}
	for _, module := range info.Deps {
		b.kubernetes = b.kubernetes || module.Path == "k8s.io/client-go"
	}
	return b, nil
}
