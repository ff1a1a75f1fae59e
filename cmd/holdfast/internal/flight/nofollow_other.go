//go:build !unix

package flight

// noFollow is nothing here; os.Root keeps what is opened inside of its folder.
const noFollow = 0
