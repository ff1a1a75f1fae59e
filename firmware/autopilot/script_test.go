package autopilot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// armingScript runs in an ArduPilot.
var armingScript = filepath.Join("..", "..", "scripts", "ardupilot", "holdfast-arming.lua")

// TestArmingScript puts the script through what happens on a vehicle. ArduPilot's Lua is 5.3; what
// the script uses is the same in 5.4.
func TestArmingScript(t *testing.T) {
	for _, name := range []string{"lua5.3", "lua5.4"} {
		lua, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.Command(lua, filepath.Join("testdata", "ardupilot.lua"), armingScript).CombinedOutput()
		if err != nil || len(out) != 0 {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return
	}
	t.Skip("no lua5.3 or lua5.4 here (Debian packages of these names)")
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
