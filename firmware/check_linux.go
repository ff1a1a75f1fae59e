package firmware

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/boards"
	"holdfast/crypto/keys"
	"holdfast/firmware/config"
	"holdfast/mavlink/link"
	"holdfast/storage/vault"
)

// CheckRow is one line of `holdfastd check`.
type CheckRow struct {
	// What is config, board, uart, keys, storage, lock, and a layer of the lock each; then policy,
	// camera, share, arming, led and button.
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what was found, or what to do
}

// Check looks at everything recording depends on and changes nothing: no file is made, no key.
func Check(cfg *config.Config) []CheckRow {
	rows := []CheckRow{{"config", true, fmt.Sprintf("%d link(s), mode %s", len(cfg.Link), cfg.Lock.Mode)}, checkBoard(cfg)}
	for _, l := range cfg.Link {
		rows = append(rows, checkLink(cfg, l))
	}
	rows = append(rows, checkKeys(cfg))
	rows = append(rows, checkGroups(cfg)...)
	rows = append(rows, checkStorage(cfg))
	rows = append(rows, checkLock(cfg)...)
	return append(rows, checkParts(cfg)...)
}

func checkBoard(cfg *config.Config) CheckRow {
	name := cfg.Board.Profile
	if name == config.ProfileAuto {
		b, found := boards.Detect(os.DirFS("/"))
		if !found {
			return CheckRow{"board", true, "no known board by its device tree; going by the configuration alone"}
		}
		return CheckRow{"board", true, fmt.Sprintf("%s (%s), %s", b.Name, b.Description, b.TestedOn)}
	}
	b, found := boards.ByName(name)
	if !found {
		return CheckRow{"board", false, fmt.Sprintf("no board %q; `holdfast boards` lists them", name)}
	}
	return CheckRow{"board", true, fmt.Sprintf("%s (%s), %s", b.Name, b.Description, b.TestedOn)}
}

func checkLink(cfg *config.Config, l config.Link) CheckRow {
	row := CheckRow{What: "uart", Detail: fmt.Sprintf("%s: %s", l.Name, l.Device)}
	kind, err := link.Kind(l.Device)
	switch {
	case err != nil:
	case kind == "tcp" || kind == "udp":
		row.Detail += ": opened when recording starts"
	case kind == "file":
		_, err = os.Stat(strings.TrimPrefix(l.Device, "file:"))
	default:
		err = tryLink(l)
	}
	if errors.Is(err, link.ErrBusy) && recorderRuns(cfg) {
		row.OK = true
		row.Detail += ": in use by the recorder, which runs"
		return row
	}
	row.OK = err == nil
	if err != nil {
		row.Detail += fmt.Sprintf(": %v; check the wiring, the name and who else uses it", plain(err))
	}
	return row
}

func tryLink(l config.Link) error {
	src, err := link.Open(l.Device, l.Baud)
	if err != nil {
		return err
	}
	return src.Close()
}

func checkKeys(cfg *config.Config) CheckRow {
	rs, err := Recipients(cfg)
	if err != nil {
		return CheckRow{"keys", false, err.Error()}
	}
	detail := fmt.Sprintf("%d recipient line(s)", rs.Count())
	if rs.Count() < 2 {
		detail += "; only one: without a second one for recovery a lost key loses every flight"
	}
	if rs.Mixed() {
		detail += "; classical and post-quantum ones: the classical one ends the quantum safety"
	}
	if rs.Bypassed() {
		detail += "; a single recipient opens alone what a line R1 + R2 wants two people for"
	}
	data, err := os.ReadFile(cfg.Vault.DeviceKey)
	switch {
	case errors.Is(err, os.ErrNotExist):
		detail += "; the device key is made at the first start"
	case err != nil:
		return CheckRow{"keys", false, plain(err).Error()}
	default:
		k, err := keys.ParseDeviceKey(data)
		if err != nil {
			return CheckRow{"keys", false, fmt.Sprintf("device key %s: %v", cfg.Vault.DeviceKey, err)}
		}
		detail += "; device " + k.ID()
	}
	return CheckRow{"keys", true, detail}
}

// checkStorage looks at the vault's folder, or where it is not there yet at the one it will be
// made in.
func checkStorage(cfg *config.Config) CheckRow {
	dir := cfg.Vault.Path
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return CheckRow{"storage", false, fmt.Sprintf("%s: %v; the recorder must be able to write there", dir, err)}
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return CheckRow{"storage", false, fmt.Sprintf("%s: %v", dir, err)}
	}
	free := int64(s.Bavail) * int64(s.Bsize)
	if free < vault.MinFree {
		return CheckRow{"storage", false, fmt.Sprintf("%s: %d MiB free, %d MiB are the least; retrieve and free flights", dir, free>>20, int64(vault.MinFree)>>20)}
	}
	return CheckRow{"storage", true, fmt.Sprintf("%s: %d MiB free", cfg.Vault.Path, free>>20)}
}
