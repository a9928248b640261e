package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// pluginMode lets everybody run the plugin, as network plugins' are.
	pluginMode = 0o755
	// tryTimeout bounds the new plugin's first run.
	tryTimeout = 10 * time.Second
)

// digest is the SHA-256 of a file, in hex.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// installPlugin puts the plugin's binary into a folder, unless the same is there.
// A runtime may be starting the old one right now: so the new one comes under
// another name, is tried, and takes the place by a rename. It returns the digest.
func installPlugin(source, folder string) (string, error) {
	want, err := digest(source)
	if err != nil {
		return "", fmt.Errorf("the plugin to install: %w", err)
	}
	target := filepath.Join(folder, pluginType)
	info, err := os.Lstat(target)
	if err == nil && info.IsDir() {
		return "", fmt.Errorf("%s is a folder; the plugin has to go there: move it away", target)
	}
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm() == pluginMode {
		if has, err := digest(target); err == nil && has == want {
			return want, nil
		}
	}
	temp, err := copyPlugin(source, folder)
	if err != nil {
		return "", fmt.Errorf("copy the plugin to %s: %w", folder, err)
	}
	defer os.Remove(temp)
	if err := try(temp); err != nil {
		return "", fmt.Errorf("the plugin does not run in %s: %w", folder, err)
	}
	if err := os.Rename(temp, target); err != nil {
		return "", err
	}
	return want, syncFolder(target)
}

// copyPlugin copies the plugin to a temporary file in a folder.
func copyPlugin(source, folder string) (name string, err error) {
	in, err := os.Open(source)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.CreateTemp(folder, "."+pluginType+".*"+temporary)
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	if _, err := io.Copy(out, in); err != nil {
		return "", err
	}
	return out.Name(), errors.Join(out.Chmod(pluginMode), out.Sync())
}

// try runs a plugin with VERSION: another architecture's, one that was cut off, or
// a folder mounted noexec would fail every pod of the node.
func try(plugin string) error {
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, plugin)
	c.Env = []string{"CNI_COMMAND=VERSION"}
	c.Stdin = strings.NewReader(`{"cniVersion":"1.0.0"}`)
	c.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		return fmt.Errorf("%w %.200s", err, complaint.Bytes())
	}
	var answer struct {
		SupportedVersions []string `json:"supportedVersions"`
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil || len(answer.SupportedVersions) == 0 {
		return fmt.Errorf("asked for the versions of CNI that it knows, it says %.200q", out.Bytes())
	}
	return nil
}

// removePlugin removes the binary.
func removePlugin(folder string) error {
	target := filepath.Join(folder, pluginType)
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(target)
}
