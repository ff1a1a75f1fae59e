package flight

import (
	"bytes"
	"fmt"
	"strings"
)

// xmpCamera is the namespace of the tags that photogrammetry reads
// (https://support.pix4d.com/hc/en-us/articles/360016450032).
const xmpCamera = "http://pix4d.com/camera/1.0/"

// xmpEnd closes the list of descriptions in a packet.
var xmpEnd = []byte("</rdf:RDF>")

// buildXMP returns an XMP packet (ISO 16684-1) with the attitude and accuracy of p. Where the
// photo has a packet, the description joins it. The note tells where it cannot.
func buildXMP(old []byte, p *place) (packet []byte, note string) {
	d := description(p)
	if len(old) > 0 {
		at := bytes.LastIndex(old, xmpEnd)
		if at >= 0 && !bytes.Contains(old, []byte("http://pix4d.com/camera/")) && len(old)+len(d) <= maxSegment-len(xmpID) {
			return bytes.Join([][]byte{old[:at], []byte(d), old[at:]}, nil), ""
		}
		note = "the camera's own XMP cannot be kept in the copy"
	}
	// The packet's begin and id are constants of the specification, part 1, section 7.3.2.
	return []byte("<?xpacket begin=\"\ufeff\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n" +
		"<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n" + d + "</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end=\"w\"?>"), note
}

// description holds numbers alone, so that nothing has to be escaped.
func description(p *place) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<rdf:Description rdf:about=\"\" xmlns:Camera=%q xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n", xmpCamera)
	field := func(name, format string, v float64) {
		fmt.Fprintf(&b, "<Camera:%s>"+format+"</Camera:%s>\n", name, v, name)
	}
	field("Yaw", "%.2f", p.yaw)
	field("Pitch", "%.2f", p.pitch)
	field("Roll", "%.2f", p.roll)
	if p.horizontal > 0 {
		field("GPSXYAccuracy", "%.3f", p.horizontal)
	}
	if p.vertical > 0 {
		field("GPSZAccuracy", "%.3f", p.vertical)
	}
	b.WriteString("</rdf:Description>\n")
	return b.String()
}
