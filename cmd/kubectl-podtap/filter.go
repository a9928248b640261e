package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podtap/podtap/pkg/pcapfilter"
)

const aboutFilter = `Check a filter, as a tap's field "filter" has it, and show the program that it makes.

Filters are written as for tcpdump: pcap-filter(7). What is different is in
docs/filters.md: names of hosts are not looked up, for one.

Without flags it prints how long the program is that the kernel would run. With -d or
-ddd it prints a program, as tcpdump prints its own for Ethernet; with --kernel the one
for the kernel, which looks for the VLAN tag beside the frame's bytes, too.

A mistake is shown with a caret under its place, and the exit code is 1.`

const exampleFilter = `  kubectl podtap filter 'tcp port 443 and not host 10.0.0.1'
  kubectl podtap filter -d 'tcp[tcpflags] & tcp-syn != 0'
  kubectl podtap filter -ddd 'vlan 100 and ip'     # the same format as tcpdump -y EN10MB -ddd`

func filterCommand() *cobra.Command {
	var d int
	var kernel bool
	c := &cobra.Command{
		Use:     "filter EXPRESSION...",
		Short:   "Check a tap's filter, and show its program",
		Long:    aboutFilter,
		Example: exampleFilter,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("filter takes an expression, such as 'tcp port 443'")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case d == 2 || d > 3:
				return errors.New("filter knows -d, a readable program, and -ddd, one in decimal numbers")
			case kernel && d == 0:
				return errors.New("--kernel says which program to print: it goes with -d or -ddd")
			}
			return checkFilter(c.OutOrStdout(), c.ErrOrStderr(), strings.Join(args, " "), d, kernel)
		},
	}
	c.Flags().CountVarP(&d, "dump", "d", "print the program: -d readable, -ddd in decimal numbers")
	c.Flags().BoolVar(&kernel, "kernel", false, "print the kernel's program instead of the one for whole frames")
	return c
}

// checkFilter prints what becomes of a filter, or what is wrong with it. d is how often -d
// was given. Several arguments are one expression, as for tcpdump.
func checkFilter(out, errs io.Writer, expression string, d int, kernel bool) error {
	target := pcapfilter.File
	if kernel || d == 0 {
		target = pcapfilter.Kernel
	}
	program, err := pcapfilter.Compile(expression, target)
	mistake := new(pcapfilter.Error)
	switch {
	case errors.As(err, &mistake):
		fmt.Fprintf(errs, "%s\n%s\n", mistake.Caret(), mistake.Problem)
		return exitCode(1)
	case err != nil:
		return err
	case d == 0:
		_, err = fmt.Fprintf(out, "The filter is right. Instructions that the kernel runs: at most %d.\n", len(program))
	case d == 1:
		_, err = io.WriteString(out, pcapfilter.Readable(program))
	default:
		_, err = io.WriteString(out, pcapfilter.Decimal(program))
	}
	return err
}
