package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// leakyLayers are the build tags of builds that leave a layer of the lock out on purpose.
var leakyLayers = []string{"nft-inet", "nft-arp", "nft-bridge", "nft-netdev", "tc", "links-down", "cgroup-bpf", "capabilities"}

// TestLeakyBuilds: a build that leaks on purpose fails the audit, which names the layer.
func TestLeakyBuilds(t *testing.T) {
	if !long {
		t.Skip("HOLDFAST_LONG=1 runs it: it takes a minute and a half for each of eight builds")
	}
	if os.Geteuid() != 0 {
		t.Skip("the network battery needs root")
	}
	for _, layer := range leakyLayers {
		t.Run(layer, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "holdfast-bench")
			build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "leak_"+strings.ReplaceAll(layer, "-", "_"), "-o", program, "./cmd/holdfast-bench")
			build.Dir, build.Env = module, append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			out, err := exec.Command(program, "audit", "--network", "--quick", "--json").Output()
			if err == nil {
				t.Fatal("the audit passes")
			}
			var r struct {
				OK        bool `json:"ok"`
				Batteries []struct {
					Cases []struct {
						Name  string   `json:"name"`
						Wrong []string `json:"wrong"`
					} `json:"cases"`
				} `json:"batteries"`
			}
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v: %.300s", err, out)
			}
			named := false
			for _, b := range r.Batteries {
				for _, c := range b.Cases {
					if len(c.Wrong) > 0 {
						named = named || strings.Contains(c.Name+strings.Join(c.Wrong, " "), layer)
						t.Logf("%s: %s", c.Name, strings.Join(c.Wrong, "; "))
					}
				}
			}
			if r.OK || !named {
				t.Errorf("the audit failed without naming %s", layer)
			}
		})
	}
}
