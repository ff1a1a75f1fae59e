package aplog_test

import "github.com/bluenviron/gomavlib/v3/pkg/message"

type streamSource struct{}

func (s *streamSource) reboot()                       {}
func (s *streamSource) produce() bool                 { return false }
func (s *streamSource) handle(uint8, message.Message) {}
