module github.com/podtap/podtap/scripts/cluster/src/tools

go 1.26
