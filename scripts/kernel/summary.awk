# Reads what the machine said (see init) and judges it: fails unless each of the packages
# that -v packages names had a test that passed, and ended well, the machine came to its
# end, and its kernel had nothing to complain of.
BEGIN { expected = split(packages, names, " ") }
sub(/^@@ /, "") {
	if ($1 == "kernel") kernel = $2
	else if ($1 == "begin") { package = $2; verdict = "" }
	else if ($1 == "end" && $2 == package) end[package] = (verdict == "" ? "no verdict" : verdict) ", code " $3
	else if ($1 == "done") done = 1
	else complaint = complaint "  " $0 "\n"
	next
}
/Kernel panic|Oops: / { complaint = complaint "  " $0 "\n" }
/^(PASS|FAIL)$/ { verdict = $0 }
/^=== (RUN|NAME|CONT)/ { test = package " " $3 }
# What a test says last before it is skipped is why.
/^ +[a-z_0-9]+\.go:[0-9]+: / { why[test] = $0; sub(/^ +[a-z_0-9]+\.go:[0-9]+: /, "", why[test]) }
# A test's verdict comes after all that it says, which may be another process's verdicts.
/^ *--- (PASS|FAIL|SKIP): / {
	name = package " " $3
	if (!(name in result)) order[++tests] = name
	result[name] = substr($2, 1, 4)
}
END {
	for (i = 1; i <= tests; i++) {
		name = order[i]
		what = result[name]
		split(name, part, " ")
		count[part[1], what]++
		all[what]++
		if (name !~ /.* .*\//) top[what]++
		if (what == "FAIL") failures = failures "  " name "\n"
		if (what == "SKIP") skips = skips "  " name ": " why[name] "\n"
	}
	print "\n== Linux " (kernel == "" ? "(did not boot)" : kernel) ", " seconds " s"
	for (i = 1; i <= expected; i++) {
		p = names[i]
		how = p in end ? end[p] : "did not end"
		good = how == "PASS, code 0" && count[p, "PASS"] > 0
		bad += !good
		printf "  %-24s %s: %d passed, %d skipped, %d failed\n", p, good ? "PASS" : "FAIL (" how ")", count[p, "PASS"], count[p, "SKIP"], count[p, "FAIL"]
	}
	printf "  %d passed, %d skipped, %d failed; ", all["PASS"], all["SKIP"], all["FAIL"]
	printf "without their parts: %d passed, %d skipped, %d failed\n", top["PASS"], top["SKIP"], top["FAIL"]
	if (skips != "") printf "skipped:\n%s", skips
	if (failures != "") printf "failed:\n%s", failures
	if (complaint != "") printf "the kernel or its machine complains:\n%s", complaint
	if (!done) print "the machine did not come to its end"
	exit bad > 0 || !done || complaint != "" || all["FAIL"] > 0
}
