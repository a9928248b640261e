# shellcheck shell=bash
# Processes that outlive the script, and the tools and the lock it works with.

need_root() { [ "$(id -u)" = 0 ] || die "needs root: it makes namespaces, mounts and links"; }

# lock: one build, up, down or crash at a time. Daemons close descriptor 9, or they
# would hold the lock as long as they live.
lock() {
	mkdir -p "$W"
	exec 9>"$W/run.lock"
	flock -n 9 || {
		log "another cluster.sh is at work on $W; waiting for it"
		flock 9
	}
}

# tools: what this script calls and a bare Debian or Ubuntu may lack.
tools() {
	local missing=() pair
	for pair in ip=iproute2 pgrep=procps nsenter=util-linux unshare=util-linux setsid=util-linux \
		flock=util-linux mount=mount mountpoint=util-linux awk=mawk hostname=hostname; do
		command -v "${pair%=*}" >/dev/null || missing+=("${pair#*=}")
	done
	# Go fetches its modules over TLS.
	[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
	[ ${#missing[@]} = 0 ] || {
		log "apt-get install ${missing[*]}"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
	}
	command -v go >/dev/null || die "needs Go, see https://go.dev/doc/install"
}

# alive NAME: the process that was noted is still that one, for pids are used again.
alive() {
	local pid start stat
	read -r pid start 2>/dev/null <"$R/pids/$1" || return 1
	stat=$(cut -d' ' -f3,22 "/proc/$pid/stat" 2>/dev/null) || return 1
	# A zombie that nobody reaps is dead too.
	[ "${stat#* }" = "$start" ] && [ "${stat%% *}" != Z ]
}

pid_of() { cut -d' ' -f1 "$R/pids/$1"; }

# daemon NAME COMMAND...: start in the background; note pid and start time.
daemon() {
	local name=$1 pid
	shift
	! alive "$name" || return 0
	mkdir -p "$R/pids" "$R/log"
	setsid "$@" </dev/null >>"$R/log/$name.log" 2>&1 9>&- &
	pid=$!
	echo "$pid $(cut -d' ' -f22 "/proc/$pid/stat")" >"$R/pids/$name"
}

# stop NAME: kill it and wait until it is gone. Nothing is ended gently: a test's
# cluster has nothing to lose. A node goes with process 1 of its pid namespace.
stop() {
	local pid child
	if alive "$1"; then
		pid=$(pid_of "$1")
		child=$(pgrep -P "$pid") && [[ $1 == n[0-9]* ]] && kill -9 "$child"
		kill -9 "$pid" 2>/dev/null || true
		until_ok 30 "$1 to end" dead "$1"
	fi
}
dead() { ! alive "$1"; }

# until_ok SECONDS WHAT COMMAND...
until_ok() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || die "gave up waiting for $what; see: cluster.sh logs"
		sleep 0.1
	done
}
