# shellcheck shell=bash
# etcd, API server, controller manager and scheduler, as processes of the host.

control_plane() {
	mkdir -p "$R"
	etcd
	apiserver
	until_ok 90 "the API server" "$W/bin/kubectl" get --raw /readyz
	controller_manager
	scheduler
}

etcd() {
	local clients="http://127.0.0.1:$ETCDPORT" peers="http://127.0.0.1:$((ETCDPORT + 1))"
	# No fsync: what a test's cluster knows need not survive the machine.
	daemon etcd "$W/bin/etcd" --name="$NAME" --data-dir="$R/etcd" --unsafe-no-fsync --log-level=warn \
		--listen-client-urls="$clients" --advertise-client-urls="$clients" \
		--listen-peer-urls="$peers" --initial-advertise-peer-urls="$peers" --initial-cluster="$NAME=$peers"
}

apiserver() {
	local k=$R/pki
	# aggregator-routing: calls of webhooks and aggregated APIs go straight to the pods'
	# addresses, for the host itself has no kube-proxy.
	daemon kube-apiserver "$W/bin/kube-apiserver" --etcd-servers="http://127.0.0.1:$ETCDPORT" \
		--bind-address="$CP" --advertise-address="$CP" --secure-port=6443 --service-cluster-ip-range="$SVCNET,$SVCNET6" \
		--tls-cert-file="$k/apiserver.crt" --tls-private-key-file="$k/apiserver.key" --client-ca-file="$k/ca.crt" \
		--kubelet-certificate-authority="$k/ca.crt" --kubelet-preferred-address-types=InternalIP \
		--kubelet-client-certificate="$k/kubelet-client.crt" --kubelet-client-key="$k/kubelet-client.key" \
		--requestheader-client-ca-file="$k/ca.crt" --requestheader-allowed-names=front-proxy-client \
		--requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
		--requestheader-extra-headers-prefix=X-Remote-Extra- \
		--proxy-client-cert-file="$k/front-proxy.crt" --proxy-client-key-file="$k/front-proxy.key" \
		--service-account-issuer=https://kubernetes.default.svc \
		--service-account-key-file="$k/sa.key" --service-account-signing-key-file="$k/sa.key" \
		--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
		--enable-aggregator-routing=true
}

# The next two serve nothing (--secure-port=0): two clusters on a machine would collide.
controller_manager() {
	local c=$R/controller-manager.kubeconfig k=$R/pki
	# allocate-node-cidrs=false: it would hand the pods' networks out in the order in
	# which nodes register; node n2 is to have the second one always.
	daemon kube-controller-manager "$W/bin/kube-controller-manager" --kubeconfig="$c" \
		--authentication-kubeconfig="$c" --authorization-kubeconfig="$c" \
		--bind-address=127.0.0.1 --secure-port=0 --leader-elect=false --use-service-account-credentials=true \
		--service-account-private-key-file="$k/sa.key" --root-ca-file="$k/ca.crt" \
		--cluster-signing-cert-file="$k/ca.crt" --cluster-signing-key-file="$k/ca.key" --allocate-node-cidrs=false
}

scheduler() {
	local c=$R/scheduler.kubeconfig
	daemon kube-scheduler "$W/bin/kube-scheduler" --kubeconfig="$c" \
		--authentication-kubeconfig="$c" --authorization-kubeconfig="$c" \
		--bind-address=127.0.0.1 --secure-port=0 --leader-elect=false
}

# node_objects N: ahead of the kubelets, which would make them without podCIDRs
node_objects() {
	local i
	for i in $(seq "$1"); do
		cat <<-Y
		---
		apiVersion: v1
		kind: Node
		metadata: {name: n$i}
		spec: {podCIDR: $(pod_net "$i"), podCIDRs: ["$(pod_net "$i")", "$(pod_net6 "$i")"]}
		Y
	done | "$W/bin/kubectl" apply --server-side --field-manager=cluster.sh -f - >/dev/null
}

# node_booting NAME: what the API server still believes of a node that crashed a moment
# ago is that it is Ready; and a kubelet that finds itself Ready takes ten seconds
# to say so again, instead of none.
node_booting() {
	"$W/bin/kubectl" patch node "$1" --subresource=status -p \
		'{"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Booting"}]}}' >/dev/null
}
