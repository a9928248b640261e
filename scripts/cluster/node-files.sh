# shellcheck shell=bash
# A node's disk, under $R/nI. It is written when the node is made and left alone when
# it boots again: what was changed on it in between is what a test of a reboot is about.

# node_files I
node_files() {
	local d=$R/n$1
	[ ! -e "$d/etc/kubernetes/kubelet.yaml" ] || return 0
	mkdir -p "$d"/{cg,var/lib/kubelet,var/lib/containerd,var/lib/cni,var/log} \
		"$d"/{etc/cni/net.d,etc/kubernetes/manifests,etc/containerd,opt/cni/bin}
	cp "$W"/bin/cni/* "$d/opt/cni/bin/"
	: >"$d/etc/kubernetes/resolv.conf" # nobody answers for names
	printf '127.0.0.1 localhost\n::1 localhost\n%s n%s\n%s n%s\n' "$(node_ip "$1")" "$1" "$(node_ip6 "$1")" "$1" >"$d/etc/kubernetes/hosts"
	containerd_config >"$d/etc/containerd/config.toml"
	conflist "$1" >"$d/etc/cni/net.d/10-$NAME.conflist"
	kubelet_config "$1" >"$d/etc/kubernetes/kubelet.yaml"
}

# restrict_oom_score_adj: without CAP_SYS_RESOURCE, as in some containers and VMs,
# nobody may lower oom_score_adj, and runc dies of it with "can't get final child's
# PID from pipe: EOF".
containerd_config() {
	# containerd 2 reads version 3, containerd 1 version 2.
	if [ "$CTRD" = 2.2 ]; then
		cat <<-'T'
		version = 3
		root = "/var/lib/containerd"
		state = "/run/containerd"
		[plugins."io.containerd.cri.v1.images"]
		  snapshotter = "overlayfs"
		[plugins."io.containerd.cri.v1.images".pinned_images]
		  sandbox = "lab.local/pause:1"
		[plugins."io.containerd.cri.v1.runtime"]
		  restrict_oom_score_adj = true
		[plugins."io.containerd.cri.v1.runtime".cni]
		  bin_dirs = ["/opt/cni/bin"]
		  conf_dir = "/etc/cni/net.d"
		[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
		  runtime_type = "io.containerd.runc.v2"
		T
	else
		cat <<-'T'
		version = 2
		root = "/var/lib/containerd"
		state = "/run/containerd"
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "lab.local/pause:1"
		  restrict_oom_score_adj = true
		[plugins."io.containerd.grpc.v1.cri".cni]
		  bin_dir = "/opt/cni/bin"
		  conf_dir = "/etc/cni/net.d"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		  runtime_type = "io.containerd.runc.v2"
		T
	fi
}

# conflist I: the primary network's chain. CNI 1.1.0 has STATUS and GC, which
# containerd knows since 2.0.
conflist() {
	local version=1.0.0
	[ "$CTRD" != 2.2 ] || version=1.1.0
	cat <<-J
	{
	  "cniVersion": "$version",
	  "name": "${NAME}net",
	  "plugins": [
	    {
	      "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true, "mtu": $POD_MTU,
	      "ipam": {
	        "type": "host-local",
	        "ranges": [[{"subnet": "$(pod_net "$1")"}], [{"subnet": "$(pod_net6 "$1")"}]],
	        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
	      }
	    },
	    {"type": "portmap", "capabilities": {"portMappings": true}},
	    {"type": "bandwidth", "capabilities": {"bandwidth": true}}${CNI_CHAIN:+,
	    $CNI_CHAIN}
	  ]
	}
	J
}

kubelet_config() {
	local n=n$1
	cat <<-Y
	apiVersion: kubelet.config.k8s.io/v1beta1
	kind: KubeletConfiguration
	authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $R/pki/ca.crt}}
	authorization: {mode: Webhook}
	tlsCertFile: $R/pki/$n-serving.crt
	tlsPrivateKeyFile: $R/pki/$n-serving.key
	containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
	cgroupDriver: cgroupfs
	cgroupRoot: /$NAME/$n
	cgroupsPerQOS: true
	enforceNodeAllocatable: [pods]
	failSwapOn: false
	failCgroupV1: false
	oomScoreAdj: 0
	# All nodes share the host's disk and memory. Never evict, and never delete an
	# image, which nobody could pull again.
	evictionHard: {memory.available: 10Mi, nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
	imageGCHighThresholdPercent: 100
	makeIPTablesUtilChains: false
	resolvConf: /etc/kubernetes/resolv.conf
	volumePluginDir: /var/lib/kubelet/volumeplugins
	staticPodPath: /etc/kubernetes/manifests
	fileCheckFrequency: 5s
	# mounted ConfigMaps follow changes within seconds
	syncFrequency: 5s
	nodeStatusUpdateFrequency: 5s
	maxPods: 60
	# Tests make and delete pods quickly.
	registryPullQPS: 0
	eventRecordQPS: 0
	kubeAPIQPS: 50
	kubeAPIBurst: 100
	Y
}
