package names_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/all"

	"holdfast/mavlink/names"
)

func TestMessageName(t *testing.T) {
	for id, want := range map[uint32]string{
		0: "HEARTBEAT", 2: "SYSTEM_TIME", 24: "GPS_RAW_INT", 124: "GPS2_RAW", 116: "SCALED_IMU2",
		253: "STATUSTEXT", 390: "ONBOARD_COMPUTER_STATUS", 12: "", 1 << 24: "", 1<<32 - 1: "",
	} {
		if got := names.MessageName(id); got != want {
			t.Errorf("id %d: %q, want %q", id, got, want)
		}
	}
}

// TestTable holds the table against the dialect: every message is there by its name.
func TestTable(t *testing.T) {
	wellFormed := regexp.MustCompile(`^[A-Z][A-Z0-9_]*[A-Z0-9]$`)
	for _, m := range all.Dialect.Messages {
		goName := strings.TrimPrefix(reflect.TypeOf(m).Elem().Name(), "Message")
		got := names.MessageName(m.GetID())
		if !wellFormed.MatchString(got) || strings.ReplaceAll(got, "_", "") != strings.ToUpper(strings.ReplaceAll(goName, "_", "")) {
			t.Errorf("id %d: %q for %s: run go generate", m.GetID(), got, goName)
		}
	}
}
