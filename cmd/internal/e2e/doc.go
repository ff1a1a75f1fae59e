// Package e2e tests the three programs as a user meets them: built once, started as processes,
// fed through pseudo-terminals, stopped by signals, and judged by their files, output and exit
// codes. It holds no code of its own, only tests, and they run on Linux only.
//
// What is expected comes from CONTRACT's rules as written down a second time in these tests
// (the reference scanner, the tlog reader), or from stock tools (age, zstd), never from the
// packages under test. HOLDFAST_LONG=1 makes the batteries longer.
//
// Units are tested beside their code, not here.
package e2e
