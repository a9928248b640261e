// Command netutil serves and sends an exact amount of traffic inside test pods. It
// prints what it counted as one JSON object.
//
//	netutil serve :7000                     TCP and UDP echo, over IPv4 and IPv6
//	netutil serve -sink :7000               ... that counts but answers nothing
//	netutil stats 198.19.1.2:7000           what that server has counted so far
//	netutil udp -n 100 -size 64 ADDR:PORT   100 datagrams of 64 bytes; exit 0 once they are sent
//	netutil udp -n 100 -echo 2s ADDR:PORT   ... and wait up to 2s for as many answers
//	netutil udp -df -size 1472 ADDR:PORT    may not be fragmented: EMSGSIZE if it does not fit
//	netutil tcp -bytes 1000000 ADDR:PORT    send that to an echo server, and compare what returns
//
// An IPv6 address is written [fd00:198:19:1::2]:7000.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	verb, result, err := os.Args[1], any(nil), error(nil)
	f := flag.NewFlagSet("netutil "+verb, flag.ExitOnError)
	timeout := f.Duration("timeout", 30*time.Second, "give up after")
	switch verb {
	case "serve":
		sink := f.Bool("sink", false, "answer nothing")
		addr := address(f)
		result, err = serve(addr, *sink)
	case "stats":
		addr := address(f)
		result, err = stats(addr, *timeout)
	case "udp":
		var u udp
		f.IntVar(&u.n, "n", 1, "datagrams")
		f.IntVar(&u.size, "size", 64, "bytes of payload")
		f.DurationVar(&u.interval, "interval", 200*time.Microsecond, "between two datagrams; 0 overruns receivers' queues")
		f.DurationVar(&u.echo, "echo", 0, "wait so long for the answers; fewer are an error")
		f.BoolVar(&u.df, "df", false, "forbid fragments")
		addr := address(f)
		result, err = u.send(addr)
	case "tcp":
		n := f.Int64("bytes", 64, "bytes to send, and to get back")
		addr := address(f)
		result, err = tcp(addr, *n, *timeout)
	default:
		usage()
	}
	if result != nil {
		b, _ := json.Marshal(result) // structs of numbers and strings: never fails
		fmt.Println(string(b))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "netutil %s: %v\n", verb, err)
		os.Exit(1)
	}
}

// address parses the flags and returns the one argument.
func address(f *flag.FlagSet) string {
	_ = f.Parse(os.Args[2:]) // ExitOnError
	if f.NArg() != 1 {
		usage()
	}
	return f.Arg(0)
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: netutil serve|stats|udp|tcp [FLAGS] ADDRESS:PORT; each with -h tells its flags")
	os.Exit(2)
}
