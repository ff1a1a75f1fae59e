// Package systemd is nothing but tests of the units in this folder: that systemd takes them, that
// it rates them as docs/units.md says, and that they agree with what the guard goes by
// (firmware/netlock/host). The tests look at a folder that stands for a board's root; the service
// manager of the machine they run on is not asked and not touched.
//
// What a package installs where:
//
//	*.service, *.d/      /usr/lib/systemd/system/
//	holdfast.sysusers    /usr/lib/sysusers.d/holdfast.conf
//	holdfast.tmpfiles    /usr/lib/tmpfiles.d/holdfast.conf
//	holdfast.sysctl      /usr/lib/sysctl.d/99-holdfast.conf
package systemd
