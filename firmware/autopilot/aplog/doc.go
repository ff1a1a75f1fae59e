// Package aplog brings the autopilot's own logs into the record: streamed while it flies, and
// pulled after it was disarmed, from ArduPilot (DataFlash) and PX4 (ULog).
//
// Pulled: LOG_REQUEST_LIST and LOG_REQUEST_DATA, or MAVLink FTP where the autopilot has it, which
// is faster and can be checked by a CRC-32. Streamed: REMOTE_LOG_DATA_BLOCK of ArduPilot, each
// block acknowledged once the record has it, and LOGGING_DATA of PX4.
//
//	https://mavlink.io/en/messages/common.html#LOG_REQUEST_LIST
//	https://mavlink.io/en/services/ftp.html
//	https://mavlink.io/en/messages/ardupilotmega.html#REMOTE_LOG_DATA_BLOCK
//	https://docs.px4.io/main/en/dev_log/log_encryption.html
//	https://docs.px4.io/main/en/dev_log/ulog_file_format.html
//
// Nothing is asked of an autopilot that is armed, or whose heartbeat was not heard for a while: it
// may have been armed since. The one message that an armed vehicle gets for a pull is
// LOG_REQUEST_END, which stops it.
//
// It is a state machine: no goroutine, no socket, no clock of its own. [Logs] is not safe for
// concurrent use; one goroutine hands it messages and steps it. Whatever comes in, memory stays
// bounded (about 2 MiB) and nothing panics. It seals nothing and writes no file: a [Store] does.
package aplog
