package cluster

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/cmd/kubectl-podtap/cluster/apitest"
)

func podtapd(name string) http.Handler {
	return apitest.Podtapd(node.Taps{Taps: []node.Tap{{Pod: "default/" + name}}}, node.Report{Node: name})
}

func newCluster(t *testing.T, s *apitest.Server) *Cluster {
	t.Helper()
	c, err := New(&rest.Config{Host: s.URL, BearerToken: apitest.Token, TLSClientConfig: rest.TLSClientConfig{CAData: s.CA}}, DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ask(t *testing.T, c *Cluster) []Answer {
	t.Helper()
	all, err := c.Podtapds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Ask(t.Context(), all)
}

func TestEachNodeIsAskedThroughThePortForward(t *testing.T) {
	for name, socket := range map[string]bool{"WebSocket": true, "SPDY": false} {
		t.Run(name, func(t *testing.T) {
			s := apitest.New(t)
			s.WebSocket = socket
			for i := range 20 {
				name := fmt.Sprintf("n%02d", i)
				s.AddNode(name, podtapd(name))
			}
			answers := ask(t, newCluster(t, s))
			if len(answers) != 20 {
				t.Fatalf("%d answers", len(answers))
			}
			for i, a := range answers {
				if name := fmt.Sprintf("n%02d", i); a.Err != nil || a.Node != name || a.Taps.Taps[0].Pod != "default/"+name || a.Report.Node != name {
					t.Errorf("%s: %+v", name, a)
				}
			}
			// One port-forward carries both questions.
			count := 0
			for _, r := range s.Requests() {
				if strings.HasSuffix(r, "/portforward") && strings.HasPrefix(r, "POST") != socket {
					count++
				}
			}
			if count != 20 {
				t.Errorf("%d port-forwards: %q", count, s.Requests())
			}
		})
	}
}

func TestAPodtapdThatDoesNotListenIsNamedWithTheNodesReason(t *testing.T) {
	for _, socket := range []bool{true, false} {
		s := apitest.New(t)
		s.WebSocket = socket
		s.AddNode("worker1", nil)
		c := newCluster(t, s)
		err := c.Errors(ask(t, c))
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "node worker1: ") ||
			!strings.Contains(err.Error(), "error forwarding port 971 to pod podtap-worker1: connection refused; see `kubectl -n podtap-system logs podtap-worker1`") {
			t.Errorf("WebSocket %v: %v", socket, err)
		}
	}
}

// A hung node must not keep the others, also where more hang than are asked at once.
func TestNodesThatNeverAnswerDoNotHoldTheOthers(t *testing.T) {
	s := apitest.New(t)
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for i := range atOnce + 4 {
		s.AddNode(fmt.Sprintf("hung%02d", i), hang)
	}
	s.AddNode("zz", podtapd("zz"))
	c := newCluster(t, s)
	c.Timeout = 300 * time.Millisecond
	began := time.Now()
	answers := ask(t, c)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, a := range answers[:atOnce+4] {
		if a.Err == nil || a.Err.Error() != "podtapd has not answered within 300ms" {
			t.Errorf("%s: %v", a.Node, a.Err)
		}
	}
	if last := answers[atOnce+4]; last.Err != nil || last.Report.Node != "zz" {
		t.Errorf("%+v", last)
	}
}

func TestAnAPIServerThatNeverUpgradesDoesNotHoldTheUser(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release); server.Close() })
	c, err := New(&rest.Config{Host: server.URL}, DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	c.Timeout = 200 * time.Millisecond
	began := time.Now()
	answers := c.Ask(t.Context(), []Podtapd{{Node: "a", Pod: "podtap-a"}})
	if answers[0].Err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", answers[0].Err, time.Since(began))
	}
}

func TestWhatTheUserMayNotDoIsSaid(t *testing.T) {
	const need = "you need the verb `list` on `pods` and the verb `create` on `pods/portforward` in namespace podtap-system; an administrator"
	s := apitest.New(t)
	s.AddNode("a", podtapd("a"))
	s.AddNode("b", podtapd("b"))
	s.Forbidden = []string{"pods"}
	c := newCluster(t, s)
	if _, err := c.Podtapds(t.Context()); err == nil || !strings.HasPrefix(err.Error(), need) || !strings.Contains(err.Error(), `User "jane" cannot`) {
		t.Errorf("pods: %v", err)
	}
	s.Forbidden = []string{"portforward"}
	for _, socket := range []bool{true, false} {
		s.WebSocket = socket
		answers := ask(t, c)
		if !apierrors.IsForbidden(answers[0].Err) {
			t.Errorf("not a refusal: %v", answers[0].Err)
		}
		if err := c.Errors(answers); err == nil || strings.Count(err.Error(), need) != 1 || strings.Contains(err.Error(), "\n") {
			t.Errorf("portforward: %v", err)
		}
	}
	s.Forbidden = []string{"nodes"}
	if _, err := c.Nodes(t.Context()); !apierrors.IsForbidden(err) {
		t.Errorf("nodes: %v", err)
	}
	s.Forbidden = []string{"daemonsets"}
	if nodes, err := c.Nodes(t.Context()); err != nil || len(nodes) != 2 || nodes[0].Excluded {
		t.Errorf("daemonsets: %v, %+v", err, nodes)
	}
}

func TestOfTwoPodtapdsOfANodeTheOneThatServesIsAsked(t *testing.T) {
	for name, change := range map[string]func(old, fresh *corev1.Pod){
		"the newer":   func(_, fresh *corev1.Pod) { fresh.CreationTimestamp = metav1.Unix(9, 0) },
		"the ready":   func(old, _ *corev1.Pod) { old.CreationTimestamp, old.Status.Conditions = metav1.Unix(9, 0), nil },
		"the running": func(old, fresh *corev1.Pod) { old.Status.Phase, fresh.Status.Conditions = corev1.PodPending, nil },
		"that which is to stay": func(old, fresh *corev1.Pod) {
			old.DeletionTimestamp, fresh.Status.Conditions = &metav1.Time{Time: time.Now()}, nil
		},
	} {
		for _, reversed := range []bool{false, true} {
			s := apitest.New(t)
			s.AddNode("a", podtapd("a"))
			s.AddNode("a", nil)
			s.Pods[1].Name = "fresh"
			change(&s.Pods[0], &s.Pods[1])
			if reversed {
				slices.Reverse(s.Pods)
			}
			all, err := newCluster(t, s).Podtapds(t.Context())
			if want := []Podtapd{{Node: "a", Pod: "fresh"}}; err != nil || !reflect.DeepEqual(all, want) {
				t.Errorf("%s: %v, %+v", name, err, all)
			}
		}
	}
}

func TestAPodtapdThatDoesNotRunIsNotAsked(t *testing.T) {
	waiting := func(reason, message string) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
	}
	for want, change := range map[string]func(*corev1.Pod){
		"CrashLoopBackOff: back-off 5m": func(p *corev1.Pod) { p.Status.ContainerStatuses = waiting("CrashLoopBackOff", "back-off\n5m") },
		"ImagePullBackOff": func(p *corev1.Pod) {
			p.Status.Phase, p.Status.ContainerStatuses = corev1.PodPending, waiting("ImagePullBackOff", "")
		},
		"Pending": func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending },
		"Evicted: the disk is full": func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "the disk is full"
		},
		"Error": func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}}}}
		},
		"Unschedulable: no CPU": func(p *corev1.Pod) {
			p.Spec.NodeName, p.Status.Phase = "", corev1.PodPending
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "no CPU"}}
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: "In", Values: []string{"a"}}}}}}}}
		},
	} {
		s := apitest.New(t)
		change(s.AddNode("a", podtapd("a")))
		c := newCluster(t, s)
		err := c.Errors(ask(t, c))
		if err == nil || err.Error() != "node a: podtapd does not run: "+want+"; see `kubectl -n podtap-system describe pod podtap-a`" {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestPodsThatTakePodtapOffANodeAreNotAsked(t *testing.T) {
	s := apitest.New(t)
	s.AddNode("a", podtapd("a")).OwnerReferences = nil
	s.AddNode("b", podtapd("b")).OwnerReferences[0].Kind = "Job"
	c := newCluster(t, s)
	if all, err := c.Podtapds(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %+v", err, all)
	}
	if err := c.NotInstalled(); !strings.Contains(err.Error(), "kubectl apply -k") || !strings.Contains(err.Error(), "--podtap-namespace") {
		t.Error(err)
	}
}

func daemonSet(tapped string) appsv1.DaemonSet {
	var d appsv1.DaemonSet
	d.Spec.Template.Spec.NodeSelector = map[string]string{"tapped": tapped}
	return d
}

func TestOnlyLinuxNodesOfTheDaemonSetAreMeantToHavePodtapd(t *testing.T) {
	s := apitest.New(t)
	s.AddNode("linux", nil)
	s.AddNode("gpu", nil)
	s.AddNode("windows", nil)
	s.Nodes[1].Labels = map[string]string{"tapped": "yes"}
	s.Nodes[2].Status.NodeInfo.OperatingSystem = "windows"
	s.DaemonSets = append(s.DaemonSets, daemonSet("yes"))
	nodes, err := newCluster(t, s).Nodes(t.Context())
	want := []Node{{"linux", "amd64", "6.12.0", "containerd://2.1.0", true}, {"gpu", "amd64", "6.12.0", "containerd://2.1.0", false}}
	if err != nil || !reflect.DeepEqual(nodes, want) {
		t.Errorf("%v, %+v", err, nodes)
	}
}
