package aplog

import "time"

type crosscheck struct{}

func (c *crosscheck) step(*Logs, time.Duration) time.Duration { return never }
func (c *crosscheck) pulled(*Logs, *transfer)                 {}
func (l *Logs) newStreamer() streamer                         { return nil }
