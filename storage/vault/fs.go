package vault

import (
	"io"
	"io/fs"
)

// FS is the medium a vault lives on. It is small on purpose: every call here is one that a
// power cut can fall into, and storage/storagetest implements each with its failures.
// Names are slash-separated and relative to the vault root. An FS is used by one goroutine.
type FS interface {
	// Create makes a new file, 0600, open for writing at its end. It fails with
	// fs.ErrExist where the name is taken: the vault never overwrites.
	Create(name string) (File, error)
	// Append opens an existing file for writing at its end.
	Append(name string) (File, error)
	// Truncate cuts a file to size bytes, on a descriptor of its own, and makes that durable.
	Truncate(name string, size int64) error
	// Replace puts p in the place of what an existing file holds, and makes that durable. It
	// writes over the old content, so a cut or a failure can leave any mixture of both; with
	// as many bytes as before it needs no room, and there is no metadata to write.
	Replace(name string, p []byte) error
	// Open opens an existing file for reading.
	Open(name string) (io.ReadCloser, error)
	// OpenSynced makes durable what a file holds, whoever wrote it, and opens it for reading
	// what the medium holds. Where it fails, a second call shows what the medium has kept.
	OpenSynced(name string) (io.ReadSeekCloser, error)
	// ReadFile returns what the medium holds, not what a cache remembers, where it can.
	ReadFile(name string) ([]byte, error)
	// Mkdir makes one directory, 0700. fs.ErrExist where it is there already.
	Mkdir(name string) error
	// Rename replaces newName atomically. Both lie in the same directory.
	Rename(oldName, newName string) error
	// Link gives a file a second name in the same directory. fs.ErrExist where that is taken;
	// an error for which NoLinks is true where the medium has no such names.
	Link(oldName, newName string) error
	// Remove removes a file, or the name where it has another, or an empty directory.
	Remove(name string) error
	ReadDir(name string) ([]fs.DirEntry, error)
	// SyncDir makes the entries of a directory durable (fsync on the directory), after
	// setting its times to zero: they would tell when the flight was.
	SyncDir(name string) error
	// ForgetTimes sets the times of a file to zero. It makes nothing durable.
	ForgetTimes(name string) error
	// Free returns the bytes that may still be written.
	Free() (int64, error)
	// Lock takes the exclusive lock of a directory, for as long as the returned closer
	// is not closed. ErrLocked where another process holds it.
	Lock(name string) (io.Closer, error)
}

// File is an open file of an FS.
type File interface {
	io.Writer
	// Sync makes what was written so far durable (fdatasync), with the file's times set
	// to zero before. After an error it must not be called again: the kernel may have
	// marked the pages clean, and a second call would report a success that is not one.
	Sync() error
	Close() error
}
