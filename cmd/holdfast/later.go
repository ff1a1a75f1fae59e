package main

import (
	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
)

// laterCommands are the verbs whose names and flags are promised already.
func laterCommands() []*cobra.Command {
	return []*cobra.Command{
		cli.Later("export DIR -i FILE --format FORMAT -o OUT", "Write csv, kml, gpx, geojson or mcap"),
		cli.Later("report DIR -i FILE -o FILE.html", "Write a report of a flight"),
		cli.Later("retrieve SRC -o ARCHIVE", "Copy sealed records from a card, a stick or a board"),
		cli.Later("share DIR --flight ID -i FILE --to R -o OUT", "Hand one flight to one more recipient"),
		cli.Later("rekey ARCHIVE -i FILE --recipients-file F", "Seal the keys of an archive to other recipients"),
		cli.Later("stick prepare DIR --sign-with FILE", "Prepare a USB stick for retrieval"),
		cli.Later("enroll DIR -o ARCHIVE", "Remember a device and its key"),
	}
}
