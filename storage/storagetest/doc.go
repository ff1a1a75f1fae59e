// Package storagetest is a medium for tests: a file system in memory that forgets, tears
// and fails as a card or a disk does, and a suite that every medium of a vault must pass.
//
// # The model
//
// A Disk keeps two states: what the running program sees (the page cache) and what the
// medium holds. Only Sync and SyncDir carry one over into the other. Crash gives the Disk
// that a board finds after a power cut; the old Disk stays as it was, so one run can be cut
// at many moments.
//
// Data. What was written before a successful Sync is there after every Crash, to the byte.
// What was written later is, file by file and independent of other files: gone; there; cut
// off at any byte, in the newest write or earlier, or at a multiple of 512 or 4096 bytes;
// there in some pages of 512 or 4096 bytes and zero in others, in any order; or zero
// throughout with the size already raised. A page cache is written back in any order and
// at any time, so each of these can be found where nothing was synced (Linux kernel,
// Documentation/filesystems/ext4, "delalloc" and "data mode"; with data=ordered ext4 shows
// the first ones only, XFS and data=writeback the zeros too; Pillai et al., "All File
// Systems Are Not Created Equal", OSDI 2014, measures them).
//
// Entries. A name that was created, renamed or removed is certain only after SyncDir of its
// own directory. Before that a Crash keeps some of the changes and forgets others: in one
// half of the crashes a prefix of them in the order of their making, as the journal of ext4
// does; in the other half any subset in which a change of a name, or of the file it stands
// for, is kept only with the earlier changes of the same name and file. So a rename is
// atomic (the old name or the new one, never both, never none), a new file may be missing,
// a removed one may be back, and a remove may outrun an earlier rename of another file.
// This is harsher than ext4 in three ways: Sync of a new file does not make its entry
// durable, SyncDir does not make the directory's own entry durable in its parent, and
// a rename onto an existing file does not flush the data first (no auto_da_alloc). POSIX
// promises none of the three; fsync(2) of Linux asks for a fsync of the directory too.
// ReadDir gives entries in any order, as a real directory does.
//
// Errors. A Sync that fails drops what it should have written: the pages are marked clean,
// the medium never gets them, and the next Sync reports success. Linux does this since
// the error is reported once per open file (https://lwn.net/Articles/752063/, "fsyncgate";
// Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020). On the
// medium such bytes are zeros, or lie beyond the end of the file. Open still shows them,
// out of the page cache; ReadFile, which asks the medium, shows zeros. They do not come
// back when later bytes of the same page are synced: that page is taken to have been
// evicted in between. A SyncDir that fails drops its changes of entries in the same way, as
// file systems without a journal do (vfat, ext2).
//
// Links. A second name of a file is an entry like others, and what is left of the file is the
// same under both. A rename of a name onto another of the same file does nothing (POSIX).
//
// In place. A Replace that succeeded is there after every Crash. One that failed, or that the
// power cut fell into, leaves the old content, the new one, or a mixture: each sector of 512 or
// page of 4096 bytes old, new, zero, or new up to some byte and old behind it, with the size of
// either. A Truncate is done or not. OpenSynced has the failures of Sync and then shows what
// ReadFile does.
//
// Space. Free counts bytes; a directory takes 4096, an entry nothing. A write that does not
// fit gets ENOSPC, and now and then its first part is taken. A removed file gives its
// space back when nobody has it open any more.
//
// # What it does not model
//
// Damage to bytes that were synced (a card that wears out, a sector that rots, a page that
// is torn while its synced half is written again): use Corrupt. Stale content of other
// files in place of zeros (data=writeback). Access rights, links to folders, names that differ in case
// only, limits on names. Errors of single sectors while reading: FailAt fails whole calls.
package storagetest
