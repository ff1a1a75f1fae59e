package netaudit

import "holdfast/firmware/evidence"

// job is what one board is for.
type job struct {
	Probe   bool     `json:"probe,omitempty"` // only find out what the kernel lacks
	Locked  bool     `json:"locked"`
	Without []string `json:"without,omitempty"`
	Rights  string   `json:"rights"`
	IDs     []int    `json:"ids"`
	Repeats int      `json:"repeats"`
	Cgroup  string   `json:"cgroup,omitempty"` // name of the cgroups' folder; empty: there are none
}

// outcome is what came of it.
type outcome struct {
	Err       string            `json:"err,omitempty"`
	Lacks     map[int]string    `json:"lacks,omitempty"`
	Families  map[string]string `json:"families,omitempty"`
	NotLocked string            `json:"not_locked,omitempty"` // what the guard said
	State     *evidence.Lock    `json:"state,omitempty"`
	Errs      map[int]string    `json:"errs,omitempty"`    // how an attack was refused, as the attacker saw it
	Seen      map[string]*count `json:"seen,omitempty"`    // all frames that came
	Arrived   []int             `json:"arrived,omitempty"` // attacks whose own frames came
	Repeats   map[int]int       `json:"repeats,omitempty"` // of a race: how many of them arrived
	Loopback  string            `json:"loopback,omitempty"`
	Lost      int               `json:"lost,omitempty"`
}
