package deploy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionv1 "k8s.io/api/admissionregistration/v1"
)

const account = "system:serviceaccount:podtap-system:podtap"

// policy decides with cel-go as an API server does: the conditions, then the variables in
// their order, then every validation. It knows no types, so only an API server can tell
// a misspelt field.
type policy struct {
	conditions, variables, validations []named
}

type named struct {
	name string
	cel.Program
}

func compile(t *testing.T, key string) policy {
	t.Helper()
	spec := decode[admissionv1.ValidatingAdmissionPolicy](t, everything(t), key).Spec
	if spec.FailurePolicy == nil || *spec.FailurePolicy != admissionv1.Fail {
		t.Errorf("%s lets through what it cannot decide", key)
	}
	env, err := cel.NewEnv(cel.OptionalTypes(), cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType),
		cel.Variable("request", cel.DynType), cel.Variable("variables", cel.DynType))
	if err != nil {
		t.Fatal(err)
	}
	program := func(name, expression string) named {
		t.Helper()
		ast, issues := env.Compile(expression)
		if issues.Err() != nil {
			t.Fatalf("%s: %v", name, issues.Err())
		}
		p, err := env.Program(ast)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return named{name, p}
	}
	var p policy
	for _, c := range spec.MatchConditions {
		p.conditions = append(p.conditions, program(c.Name, c.Expression))
	}
	for _, v := range spec.Variables {
		p.variables = append(p.variables, program(v.Name, v.Expression))
	}
	for _, v := range spec.Validations {
		p.validations = append(p.validations, program(v.Message+v.MessageExpression, v.Expression))
		if v.MessageExpression != "" {
			program(v.MessageExpression, v.MessageExpression)
		}
	}
	return p
}

// refused says why a request is, or "" where it is not.
func (p policy) refused(t *testing.T, user, node string, before, after any) string {
	t.Helper()
	info := map[string]any{"username": user}
	if node != "" {
		info["extra"] = map[string]any{"authentication.kubernetes.io/node-name": []any{node}}
	}
	request := map[string]any{"userInfo": info, "operation": "UPDATE"}
	if before == nil {
		request["operation"] = "CREATE"
	}
	variables := map[string]any{}
	input := map[string]any{"request": request, "object": after, "oldObject": before, "variables": variables}
	for _, c := range p.conditions {
		if out, _, err := c.Eval(input); err != nil {
			return fmt.Sprintf("condition %s: %v", c.name, err)
		} else if out != types.True {
			return ""
		}
	}
	for _, v := range p.variables {
		out, _, err := v.Eval(input)
		if err != nil {
			return fmt.Sprintf("variable %s: %v", v.name, err)
		}
		variables[v.name] = out
	}
	for _, v := range p.validations {
		if out, _, err := v.Eval(input); err != nil {
			return fmt.Sprintf("%s: %v", v.name, err)
		} else if out != types.True {
			return v.name
		}
	}
	return ""
}

// object reads JSON as an API server hands it to CEL.
func object(t *testing.T, format string, args ...any) any {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	if text == "" {
		return nil
	}
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

// decides runs one request through a policy; says is in the reason of a refusal.
func (p policy) decides(t *testing.T, user, node string, before, after any, says string) {
	t.Helper()
	reason := p.refused(t, user, node, before, after)
	switch {
	case says == "" && reason != "":
		t.Errorf("refused: %s", reason)
	case says != "" && reason == "":
		t.Error("allowed")
	case !strings.Contains(reason, says):
		t.Errorf("refused for another reason: %s", reason)
	}
}

func TestAPodtapdSpeaksOfItsOwnNodeOnly(t *testing.T) {
	p := compile(t, "ValidatingAdmissionPolicy//podtap-events")
	const (
		fromA   = `"source": {"component": "podtapd", "host": "a"}`
		fromB   = `"source": {"component": "podtapd", "host": "b"}`
		kubelet = `"source": {"component": "kubelet", "host": "a"}`
		onPod   = `"involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"}`
		onA     = `"involvedObject": {"kind": "Node", "name": "a"}`
		onB     = `"involvedObject": {"kind": "Node", "name": "b"}`
	)
	event := func(fields ...string) string { return "{" + strings.Join(fields, ", ") + "}" }
	for name, c := range map[string]struct{ user, node, before, after, says string }{
		"of a pod":                      {account, "a", "", event(fromA, onPod), ""},
		"of its node":                   {account, "a", "", event(fromA, onA), ""},
		"again":                         {account, "a", event(fromA, onPod), event(fromA, onPod), ""},
		"as client-go says it":          {account, "a", "", event(fromA, onPod, `"reportingComponent": "podtapd"`, `"reportingInstance": "a"`), ""},
		"of another node":               {account, "a", "", event(fromA, onB), "tells only of pods"},
		"of a Deployment":               {account, "a", "", event(fromA, `"involvedObject": {"kind": "Deployment", "name": "a"}`), "tells only of pods"},
		"of nothing":                    {account, "a", "", event(fromA), "tells only of pods"},
		"as another node":               {account, "a", "", event(fromB, onPod), "must be podtapd on"},
		"as the kubelet":                {account, "a", "", event(kubelet, onPod), "must be podtapd on"},
		"as nobody":                     {account, "a", "", event(onPod), "must be podtapd on"},
		"reported by another":           {account, "a", "", event(fromA, onPod, `"reportingComponent": "kubelet"`), "as podtapd only"},
		"over the kubelet's":            {account, "a", event(kubelet, onPod), event(fromA, onPod), "is not of podtapd on"},
		"over another node's":           {account, "a", event(fromB, onPod), event(fromA, onPod), "is not of podtapd on"},
		"with a token of no node":       {account, "", "", event(fromA, onPod), "names no node"},
		"with no node, and of no host":  {account, "", "", event(`"source": {"component": "podtapd"}`, onPod), "names no node"},
		"somebody else of another node": {"system:node:b", "", "", event(kubelet, onB), ""},
	} {
		t.Run(name, func(t *testing.T) {
			p.decides(t, c.user, c.node, object(t, "%s", c.before), object(t, "%s", c.after), c.says)
		})
	}
}

func TestAPodtapdTakesOnlyTheStartupTaintOffOnlyItsNode(t *testing.T) {
	p := compile(t, "ValidatingAdmissionPolicy//podtap-nodes")
	const (
		ours  = `{"key": "podtap.io/not-ready", "effect": "NoSchedule"}`
		other = `{"key": "example.test/gpu", "value": "yes", "effect": "NoSchedule"}`
		worse = `{"key": "example.test/gpu", "value": "yes", "effect": "NoExecute"}`
	)
	node := func(meta, spec string, taints ...string) any {
		return object(t, `{"metadata": {"name": "a", "resourceVersion": "1"%s}, "spec": {"podCIDR": "198.18.1.0/24"%s, "taints": [%s]}}`,
			meta, spec, strings.Join(taints, ","))
	}
	none := object(t, `{"metadata": {"name": "a", "resourceVersion": "2"}, "spec": {"podCIDR": "198.18.1.0/24"}}`)
	const label = `, "labels": {"role": "x"}`
	for name, c := range map[string]struct {
		user, node    string
		before, after any
		says          string
	}{
		"its only taint":             {account, "a", node("", "", ours), none, ""},
		"one of two":                 {account, "a", node(label, "", other, ours), node(label, "", other), ""},
		"both effects of it":         {account, "a", node("", "", ours, `{"key": "podtap.io/not-ready", "effect": "NoExecute"}`), none, ""},
		"nothing":                    {account, "a", none, none, ""},
		"another node's":             {account, "b", node("", "", ours), none, "no other"},
		"with a token of no node":    {account, "", node("", "", ours), none, "no other"},
		"somebody else's":            {account, "a", node("", "", ours, other), node("", "", ours), "no other taint"},
		"all":                        {account, "a", node("", "", ours, other), none, "no other taint"},
		"put on":                     {account, "a", none, node("", "", ours), "add or change"},
		"changed":                    {account, "a", node("", "", other), node("", "", worse), "add or change"},
		"cordoned besides":           {account, "a", node("", "", ours), node("", `, "unschedulable": true`), "nothing of its node but"},
		"labelled besides":           {account, "a", node("", "", ours), node(label, ""), "nothing of its node but"},
		"a label less":               {account, "a", node(label, "", ours), none, "nothing of its node but"},
		"another label":              {account, "a", node(label, "", ours), node(`, "labels": {"role": "y"}`, ""), "nothing of its node but"},
		"annotated besides":          {account, "a", node("", "", ours), node(`, "annotations": {"a": "b"}`, ""), "nothing of its node but"},
		"kept from deletion":         {account, "a", node("", "", ours), node(`, "finalizers": ["a/b"]`, ""), "nothing of its node but"},
		"an administrator's changes": {"admin", "", none, node(label, `, "unschedulable": true`, other), ""},
	} {
		t.Run(name, func(t *testing.T) {
			p.decides(t, c.user, c.node, c.before, c.after, c.says)
		})
	}
}

func TestEveryPolicyIsBoundAndDenies(t *testing.T) {
	all := everything(t)
	for _, name := range []string{"podtap-events", "podtap-nodes"} {
		b := decode[admissionv1.ValidatingAdmissionPolicyBinding](t, all, "ValidatingAdmissionPolicyBinding//"+name)
		if b.Spec.PolicyName != name || b.Spec.ValidationActions[0] != admissionv1.Deny || b.Spec.MatchResources != nil {
			t.Errorf("%+v", b.Spec)
		}
	}
}
