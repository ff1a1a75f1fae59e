package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf(`%s is no duration, such as "200ms" or "1.5s"`, quoted(text))
	}
	return d, nil
}

// units holds the units of a size, largest first. "B" comes last, for the others end in it.
var units = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// parseSize reads a whole number with a unit, such as "512MiB". It returns bytes.
func parseSize(text string) (int64, error) {
	bad := fmt.Errorf(`%s is no size, such as "256MiB" (units B, KiB, MiB, GiB)`, quoted(text))
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil {
			return 0, bad
		}
		if n > uint64(math.MaxInt64/u.bytes) {
			return 0, fmt.Errorf("%s is too large", quoted(text))
		}
		return int64(n) * u.bytes, nil
	}
	return 0, bad
}

// formatSize writes n bytes in the largest unit that holds them without a remainder.
func formatSize(n int64) string {
	for _, u := range units {
		if n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return "0B"
}
