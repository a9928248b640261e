package pcapfilter

import "testing"

// What compiling costs: `go test -run '^$' -bench . ./pkg/pcapfilter`.
func BenchmarkCompile(b *testing.B) {
	for _, e := range []string{"tcp port 443", "host 198.18.0.1 and (tcp port 80 or 443) and not icmp", "vlan 100 and tcp[tcpflags] & tcp-syn != 0"} {
		b.Run(e, func(b *testing.B) {
			for b.Loop() {
				if _, err := Compile(e, Kernel); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("all that are used most", func(b *testing.B) {
		list := expressions(b, "that people use most")
		for b.Loop() {
			for _, e := range list {
				if _, err := Compile(e, Kernel); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(list)), "µs/expression")
	})
}
