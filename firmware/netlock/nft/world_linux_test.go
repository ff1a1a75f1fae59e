package nft_test

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/nft"
	"holdfast/firmware/netlock/nstest"
)

// roleEnv makes the test binary the far side of a link, or a guard that is to be killed.
const roleEnv = "HOLDFAST_NFT_ROLE"

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-test.fuzzworker") {
		os.Exit(m.Run()) // it talks by inherited files, and needs no namespace
	}
	switch os.Getenv(roleEnv) {
	case "far":
		farMain()
	case "guard":
		guardMain()
	default:
		nstest.Main(m)
	}
}

// fence is the ethertype (local experimental 2) of the frame that the far side sends itself, to
// know that it has counted all frames before.
const fence = 0x88b6

// farMain counts the frames that arrive on any link of its namespace, and obeys lines: up LINK,
// count, send LINK HEX.
func farMain() {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	die(err)
	die(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20))
	far := &farSide{fd: fd, counts: map[uint16]int{}}
	die(setUp("lo"))
	// Frames that the far side's kernel would send are counted at the near side.
	die(os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0))
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch f[0] {
		case "up":
			die(setUp(f[1]))
			fmt.Println("ok")
		case "send":
			p, err := hex.DecodeString(f[2])
			die(err)
			die(sendFrame(f[1], p))
			fmt.Println("ok")
		case "count":
			far.drain()
			fmt.Println(strings.Trim(fmt.Sprint(far.counts), "map[]"))
		}
	}
}

type farSide struct {
	fd     int
	counts map[uint16]int
}

func (f *farSide) drain() {
	die(sendFrame("lo", frame(fence)))
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(f.fd, buf, 0)
		die(err)
		ll := from.(*unix.SockaddrLinklayer)
		switch kind := binary.BigEndian.Uint16(buf[12:n]); {
		case ll.Pkttype == unix.PACKET_OUTGOING:
		case kind == fence && ll.Ifindex == 1:
			return
		default:
			f.counts[kind]++
		}
	}
}

func die(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// frame is a broadcast Ethernet frame.
func frame(kind uint16, payload ...byte) []byte {
	p := append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9}, byte(kind>>8), byte(kind))
	return append(append(p, payload...), make([]byte, 46)...)
}

// packetSocket sends on any link. It stays open: closing one takes the kernel many milliseconds.
var packetSocket = sync.OnceValues(func() (int, error) {
	return unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
})

func sendFrame(link string, p []byte) error {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	fd, err := packetSocket()
	if err != nil {
		return err
	}
	return unix.Sendto(fd, p, 0, &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: htons(binary.BigEndian.Uint16(p[12:]))})
}

// far is a process with a network namespace of its own, at the other end of links.
type far struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	mu  sync.Mutex
}

func startFar(t testing.TB) *far {
	nstest.Need(t)
	f := &far{t: t, cmd: role("far")}
	f.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	f.in, f.out = start(t, f.cmd)
	return f
}

func role(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start waits until the process says that it is ready, and kills it at the end of the test.
func start(t testing.TB, cmd *exec.Cmd) (io.WriteCloser, *bufio.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%v: %q %v", cmd.Env[len(cmd.Env)-2:], line, err)
	}
	return in, r
}

func (f *far) do(format string, args ...any) string {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(f.in, format+"\n", args...)
	line, err := f.out.ReadString('\n')
	if err != nil || strings.HasPrefix(line, "error:") {
		f.t.Fatalf("far side: %q %v", line, err)
	}
	return strings.TrimSpace(line)
}

// frames returns how many frames arrived so far, of all ethertypes or of one.
func (f *far) frames(kinds ...uint16) (n int) {
	f.t.Helper()
	for _, field := range strings.Fields(f.do("count")) {
		var kind uint16
		var c int
		if _, err := fmt.Sscanf(field, "%d:%d", &kind, &c); err != nil {
			f.t.Fatalf("far side: %q", field)
		}
		if len(kinds) == 0 || kind == kinds[0] {
			n += c
		}
	}
	return n
}

// link makes a link name here, up, with addresses 10.9.N.1 and fd09:N::1, whose other end is up
// in f. The far end has no addresses: neighbours are entered by hand, so that frames leave.
func (f *far) link(name string, n int) {
	f.t.Helper()
	f.bare(name)
	l, err := netlink.LinkByName(name)
	must(f.t, err)
	must(f.t, setUp(name))
	for _, s := range []string{fmt.Sprintf("10.9.%d.1/24", n), fmt.Sprintf("fd09:%d::1/64", n)} {
		a, err := netlink.ParseAddr(s)
		must(f.t, err)
		a.Flags = unix.IFA_F_NODAD
		must(f.t, netlink.AddrAdd(l, a))
	}
	for _, s := range []string{fmt.Sprintf("10.9.%d.2", n), fmt.Sprintf("fd09:%d::2", n)} {
		must(f.t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: net.ParseIP(s),
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}, State: netlink.NUD_PERMANENT}))
	}
}

// bare makes a link name here, down, whose other end is up in f.
func (f *far) bare(name string) {
	f.t.Helper()
	must(f.t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: name, TxQLen: 1000},
		PeerName:      "p" + name,
		PeerNamespace: netlink.NsPid(f.cmd.Process.Pid),
	}))
	f.t.Cleanup(func() {
		if l, err := netlink.LinkByName(name); err == nil {
			_ = netlink.LinkDel(l)
		}
	})
	f.do("up p%s", name)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// variantEnv is the number of the kernel that a guard thinks it has.
const variantEnv = "HOLDFAST_NFT_VARIANT"

// guardMain holds tables until it is killed.
func guardMain() {
	n, err := strconv.Atoi(os.Getenv(variantEnv))
	die(err)
	ts, err := nft.NewOn(nft.Config{Group: 9}, variants[n].lack)
	die(err)
	die(ts.SetLinks([]string{"eth0"}))
	die(ts.Apply())
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func guard(variant int) *exec.Cmd {
	cmd := role("guard")
	cmd.Env = append(cmd.Env, variantEnv+"="+strconv.Itoa(variant))
	return cmd
}

// variants are the kernels that tables are tried on: this one, and this one as if it were older.
var variants = []struct {
	name string
	lack func(*nft.Support)
}{
	{"this kernel", func(*nft.Support) {}},
	{"Linux 6.12", func(s *nft.Support) { s.EveryLink = nft.ErrLack }},
	{"Linux 5.16", func(s *nft.Support) { s.EveryLink, s.Persist = nft.ErrLack, nft.ErrLack }},
	{"Linux 5.10", func(s *nft.Support) {
		s.EveryLink, s.Persist, s.Owner, s.Egress = nft.ErrLack, nft.ErrLack, nft.ErrLack, nft.ErrLack
	}},
	{"without log and counters", func(s *nft.Support) { s.Log, s.Count = nft.ErrLack, nft.ErrLack }},
}

// tables makes Tables that are removed at the end of the test.
func tables(t testing.TB, c nft.Config, lack func(*nft.Support)) *nft.Tables {
	t.Helper()
	nstest.Need(t)
	must(t, setUp("lo"))
	ts, err := nft.NewOn(c, lack)
	must(t, err)
	t.Cleanup(func() {
		if err := ts.Remove(); err != nil {
			t.Errorf("remove: %v", err)
		}
		_ = ts.Close()
		if left := tableNames(t); len(left) > 0 {
			t.Errorf("tables left behind: %v", left)
			c := new(nftables.Conn)
			c.FlushRuleset()
			must(t, c.Flush())
		}
	})
	return ts
}

func tableNames(t testing.TB) (names []string) {
	t.Helper()
	all, err := new(nftables.Conn).ListTables()
	must(t, err)
	for _, a := range all {
		names = append(names, a.Name)
	}
	return names
}
