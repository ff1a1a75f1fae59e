package netaudit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Processes of a field talk by lines of JSON over pipes: one request, one answer, in turn.

// request is one.
type request struct {
	Op     string     `json:"op"`
	IDs    []int      `json:"ids,omitempty"`
	Name   string     `json:"name,omitempty"`
	Names  []string   `json:"names,omitempty"`
	Frames []sent     `json:"frames,omitempty"`
	Millis int        `json:"millis,omitempty"`
	Count  int        `json:"count,omitempty"`
	PID    int        `json:"pid,omitempty"`
	Kinds  [][]string `json:"kinds,omitempty"`
}

type sent struct {
	Link  string `json:"link"`
	Frame []byte `json:"frame"`
}

// answer is what comes back.
type answer struct {
	Err     string            `json:"err,omitempty"`
	Errs    map[int]string    `json:"errs,omitempty"`    // by attack
	Seen    map[string]*count `json:"seen,omitempty"`    // by place: "id", "link name"
	Arrived []int             `json:"arrived,omitempty"` // attacks whose frames came
	Lost    int               `json:"lost,omitempty"`    // frames that the sniffer could not take
}

// count is what the sniffer saw of one attack, or of none.
type count struct {
	Frames int            `json:"frames"`
	Kinds  map[string]int `json:"kinds"`
	Types  map[string]int `json:"ethertypes"`
	Links  map[string]int `json:"links,omitempty"`
}

func newCount() *count {
	return &count{Kinds: map[string]int{}, Types: map[string]int{}, Links: map[string]int{}}
}

// caller is the asking end.
type caller struct {
	mu  sync.Mutex
	enc *json.Encoder
	dec *json.Decoder
	who string
}

func newCaller(who string, r io.Reader, w io.Writer) *caller {
	return &caller{enc: json.NewEncoder(w), dec: json.NewDecoder(r), who: who}
}

func (c *caller) call(q request) (*answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enc.Encode(q); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", c.who, q.Op, err)
	}
	a := new(answer)
	if err := c.dec.Decode(a); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", c.who, q.Op, err)
	}
	if a.Err != "" {
		return nil, fmt.Errorf("%s: %s: %s", c.who, q.Op, a.Err)
	}
	return a, nil
}

// serve answers until the other end is gone.
func serve(r io.Reader, w io.Writer, handle func(request) answer) error {
	dec, enc := json.NewDecoder(r), json.NewEncoder(w)
	for {
		var q request
		err := dec.Decode(&q)
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := enc.Encode(handle(q)); err != nil {
			return err
		}
	}
}

func failed(err error) answer {
	if err != nil {
		return answer{Err: err.Error()}
	}
	return answer{}
}
