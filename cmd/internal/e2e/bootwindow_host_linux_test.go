package e2e_test

import (
	"fmt"
	"strconv"
	"strings"
)

// hostRow is one thing of the whole machine: what to look at, and what is seen there without the lock and
// with it. A row whose two answers do not differ without Holdfast would prove nothing.
type hostRow struct {
	name, look   string
	open, locked string
}

var hostRows = []hostRow{
	{"swap", "tail -n +2 /proc/swaps | wc -l", "1", "0"},
	{"core dumps", "ulimit -c unlimited; cd /var/tmp; rm -f core.*; sh -c 'kill -SEGV $$' >/dev/null 2>&1; ls core.* 2>/dev/null | wc -l", "1", "0"},
	{"radio", "cat /sys/class/rfkill/*/soft | sort -u", "0", "1"},
	{"IPv6", "cat /proc/sys/net/ipv6/conf/all/disable_ipv6", "0", "1"},
	{"forwarding", "cat /proc/sys/net/ipv4/ip_forward", "1", "0"},
	{"links that are up", "cat /sys/class/net/eth*/flags | while read f; do echo $((f & 1)); done | sort -u", "1", "0"},
	{"new USB devices", "cat /sys/bus/usb/devices/usb*/authorized_default | sort -u", "1", "0"},
	{"powers of a service", "grep CapBnd /proc/self/status", "all", "few"},
	{"powers of a user's manager", "grep CapBnd /proc/$(pgrep -u pilot -f 'systemd --user')/status", "all", "few"},
	{"powers of a login", "grep CapBnd /proc/$(pgrep -u pilot -f -- -sh)/status", "all", "few"},
	{"a link set up by root", "ip link set $(basename $(ls -d /sys/class/net/eth* | head -n 1)) up >/dev/null 2>&1 && echo done || echo refused", "done", "refused"},
	{"a module loaded by root", "modprobe dummy 2>/dev/null && echo done || echo refused", "done", "refused"},
}

// checkHost looks at each row.
func (g *bootGuest) checkHost() {
	g.t.Helper()
	for _, r := range hostRows {
		out, _ := g.try("/bin/sh", "-c", r.look)
		got, want := strings.TrimSpace(out), r.open
		if mask, ok := strings.CutPrefix(got, "CapBnd:\t"); ok {
			got = powers(mask)
		}
		if g.locked {
			want = r.locked
		}
		if got != want {
			g.t.Errorf("%s: %q, want %q", r.name, got, want)
			continue
		}
		g.t.Logf("%-28s %s", r.name, got)
	}
}

// pastTheLock are the capabilities with which a program could go past the lock: their numbers in capability.h.
var pastTheLock = map[string]uint{
	"NET_ADMIN": 12, "NET_RAW": 13, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "BPF": 39,
}

// powers tells whether a mask of capabilities holds all of pastTheLock, none ("few"), or which.
func powers(mask string) string {
	bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
	if err != nil {
		return err.Error()
	}
	var has []string
	for _, name := range sortedKeys(pastTheLock) {
		if bits>>pastTheLock[name]&1 == 1 {
			has = append(has, name)
		}
	}
	switch len(has) {
	case 0:
		return "few"
	case len(pastTheLock):
		return "all"
	}
	return strings.Join(has, " ")
}

// checkCapabilities lists who still has one of these powers: process 1, the guard, and who the units name.
func (g *bootGuest) checkCapabilities() {
	g.t.Helper()
	if !g.locked {
		return
	}
	out := g.do("/bin/sh", "-c", `for p in /proc/[0-9]*; do c=$(tr '\0' ' ' <$p/cmdline); [ -z "$c" ] || printf "%s %s %s\n" "$(grep CapBnd $p/status | cut -f2)" "${p#/proc/}" "$c"; done; true`)
	guard := g.mainPID(guardUnit)
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(f) < 3 {
			continue
		}
		has := powers(f[0])
		if has == "few" {
			continue
		}
		text := fmt.Sprintf("process %s (%s) may have %s", f[1], f[2], has)
		if f[1] != "1" && f[1] != guard {
			g.t.Log("exception: " + text)
		}
	}
}
