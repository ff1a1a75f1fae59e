// Package audit attacks what this build records and says whether each attack was seen.
//
// The tamper battery records vaults with storage/vault, edits copies of them as somebody with
// the card in his hand would (with and without keys), and holds the verdict of custody.Verify
// against the one that docs/format/v1.md, section 6, demands: state, rule and place. What nobody
// could notice is made too, shown to be unnoticed, and listed with the reason.
//
// The power battery records on storage/storagetest's medium, cuts the power, and holds what is
// left against the promises: nothing looks tampered with, what was promised is there, and
// recording goes on.
//
// It attacks no running program and no machine; networks and hardware are other batteries'.
package audit
