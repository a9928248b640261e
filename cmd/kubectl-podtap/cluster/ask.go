package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/podtap/podtap/api/node"
)

const (
	maxBody    = 8 << 20 // bytes; a tap takes about one KiB
	maxMessage = 512     // bytes of an error's text
	// maxValues bounds the objects of an answer, and the elements of its lists: {} has two
	// bytes as JSON, and hundreds as a tap.
	maxValues = 100000
)

// Answer is what podtapd told of its node, or why it did not.
type Answer struct {
	Podtapd
	Taps   *node.Taps
	Report *node.Report
	Err    error // what was told before it is there
}

// Ask asks each podtapd for the taps of its node and for its report. A node that
// does not answer does not keep the others waiting.
func (c *Cluster) Ask(ctx context.Context, all []Podtapd) []Answer {
	answers := make([]Answer, len(all))
	turn := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for i, p := range all {
		turn <- struct{}{}
		wait.Go(func() {
			answers[i] = c.ask(ctx, p)
			<-turn
		})
	}
	wait.Wait()
	return answers
}

// Errors are why nodes did not answer, and what to do; one error for all that the
// user is not allowed to ask.
func (c *Cluster) Errors(answers []Answer) error {
	var all []error
	var refused error
	for _, a := range answers {
		switch {
		case a.Err == nil:
		case !apierrors.IsForbidden(a.Err):
			all = append(all, fmt.Errorf("node %s: %w; %s", a.Node, a.Err, c.Hint(a.Podtapd)))
		case refused == nil:
			refused = c.forbidden(a.Err)
			all = append(all, refused)
		}
	}
	return errors.Join(all...)
}

// Hint is the command that tells more of a podtapd that does not answer.
func (c *Cluster) Hint(p Podtapd) string {
	if p.Trouble != "" {
		return fmt.Sprintf("see `kubectl -n %s describe pod %s`", c.Namespace, p.Pod)
	}
	return fmt.Sprintf("see `kubectl -n %s logs %s`", c.Namespace, p.Pod)
}

func (c *Cluster) ask(ctx context.Context, p Podtapd) Answer {
	a := Answer{Podtapd: p}
	if p.Trouble != "" {
		a.Err = fmt.Errorf("podtapd does not run: %s", p.Trouble)
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	transport := &http.Transport{
		// The transport's own context outlives the request.
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return c.Dial(ctx, p) },
		DisableCompression: true, // so that maxBody is what it takes in memory
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	a.Taps, a.Err = fetch[node.Taps](ctx, client, node.PathTaps)
	if a.Err == nil {
		a.Report, a.Err = fetch[node.Report](ctx, client, node.PathReport)
	}
	if errors.Is(a.Err, context.DeadlineExceeded) {
		a.Err = fmt.Errorf("podtapd has not answered within %v", c.Timeout)
	}
	return a
}

// oneLine is a text without line breaks: an error has a line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func fetch[T any](ctx context.Context, client *http.Client, path string) (*T, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node.DefaultAddress+path, nil)
	if err != nil {
		return nil, err
	}
	r, err := client.Do(q)
	if err != nil {
		// Without the address: it says nothing about the node.
		return nil, fmt.Errorf("ask podtapd for %s: %w", path, errors.Unwrap(err))
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(r.Body, maxMessage))
		return nil, fmt.Errorf("podtapd answers %s to %s: %s", r.Status, path, oneLine(string(text)))
	}
	v := new(T)
	if err := decode(r.Body, v); err != nil {
		return nil, fmt.Errorf("read podtapd's answer to %s: %w", path, err)
	}
	return v, nil
}

// decode reads JSON that takes no more memory than an answer can.
func decode(r io.Reader, into any) error {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	switch {
	case len(body) > maxBody:
		return fmt.Errorf("it has more than %d MiB", maxBody>>20)
	case err != nil:
		return err
	case max(bytes.Count(body, []byte("{")), elements(body)) > maxValues:
		return fmt.Errorf("it has more than %d objects, or elements of lists", maxValues)
	}
	return json.Unmarshal(body, into)
}

// elements is how many elements the lists of a JSON text can have at most: whatever they
// are, one of them takes its place in the list.
func elements(text []byte) int {
	n := 0
	var within []byte // [ and {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			within = append(within, c)
			if c == '[' {
				n++
			}
		case ']', '}':
			within = within[:max(len(within)-1, 0)]
		case ',':
			if len(within) > 0 && within[len(within)-1] == '[' {
				n++
			}
		}
	}
	return n
}
