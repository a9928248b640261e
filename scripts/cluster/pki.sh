# shellcheck shell=bash
# Certificates and kubeconfigs. They outlive `down`, so that a kubeconfig that
# somebody exported works again after the next `up`.

pki() {
	local n=$1 i dir=$R/pki want="$NET $NET6 $SVCNET $NAME"
	local svc=kubernetes.default.svc
	fresh "$dir/.stamp" "$want" || rm -rf "$dir" # addresses are in the certificates
	mkdir -p "$dir"
	chmod 700 "$dir"
	# A line is: file, what it is for, subject, subject alternative names.
	{
		echo "apiserver server CN=kube-apiserver $CP,127.0.0.1,${SVCNET%.*}.1,localhost,kubernetes,kubernetes.default,$svc,$svc.cluster.local"
		echo "kubelet-client client O=system:masters,CN=kube-apiserver-kubelet-client"
		echo "front-proxy client CN=front-proxy-client"
		echo "admin client O=system:masters,CN=admin"
		echo "controller-manager client CN=system:kube-controller-manager"
		echo "scheduler client CN=system:kube-scheduler"
		echo "kube-proxy client CN=system:kube-proxy"
		for i in $(seq "$n"); do
			echo "n$i client O=system:nodes,CN=system:node:n$i"
			echo "n$i-serving server O=system:nodes,CN=system:node:n$i n$i,$(node_ip "$i"),$(node_ip6 "$i"),127.0.0.1"
		done
	} | "$W/bin/pki" -dir "$dir" -ca "$NAME-ca"
	mark "$dir/.stamp" "$want"
	for i in admin controller-manager scheduler kube-proxy $(seq -f 'n%g' "$n"); do kubeconf "$i"; done
}

# kubeconf NAME
kubeconf() {
	cat >"$R/$1.kubeconfig" <<-Y
	apiVersion: v1
	kind: Config
	clusters: [{name: "$NAME", cluster: {server: "https://$CP:6443", certificate-authority: $R/pki/ca.crt}}]
	users: [{name: "$1", user: {client-certificate: $R/pki/$1.crt, client-key: $R/pki/$1.key}}]
	contexts: [{name: "$NAME", context: {cluster: "$NAME", user: "$1"}}]
	current-context: "$NAME"
	Y
	chmod 600 "$R/$1.kubeconfig"
}
