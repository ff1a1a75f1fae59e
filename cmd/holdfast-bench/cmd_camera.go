package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
)

func cameraCommand() *cobra.Command {
	fps, duration := 10.0, time.Duration(0)
	c := &cobra.Command{
		Use:   "camera",
		Short: "A camera for the bench: a row of JPEG pictures on standard output",
		Long: `camera writes motion JPEG to standard output, as a camera's program does, for a [[camera]] with
source "command" and format "mjpeg". Picture number n is the same each time, so that what was
sealed and opened can be compared with what was filmed.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if fps <= 0 || fps > 1000 || duration < 0 {
				return cli.Exit(cli.Usage, "--fps takes more than 0 and at most 1000, --duration none below 0")
			}
			return film(c.Context(), c.OutOrStdout(), fps, duration)
		},
	}
	c.Flags().Float64Var(&fps, "fps", fps, "pictures a second")
	c.Flags().DurationVar(&duration, "duration", duration, "how long it films; 0: until it is ended")
	return c
}

// film writes pictures at their times. An output that nobody reads any more ends it in good order.
func film(ctx context.Context, w io.Writer, fps float64, duration time.Duration) error {
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		at := time.Duration(float64(n) / fps * float64(time.Second))
		if duration > 0 && at >= duration {
			return nil
		}
		timer.Reset(time.Until(begin.Add(at)))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		p, err := picture(n)
		if err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("nobody takes the pictures: %w", err)
		}
	}
}

// Pictures are small, so that many of them fit into a demonstration.
const pictureWidth, pictureHeight = 320, 240

// picture is the JPEG with a number: ground below a sky, a field that passes by, and the number in
// bits along the upper edge.
func picture(n int) ([]byte, error) {
	m := image.NewRGBA(image.Rect(0, 0, pictureWidth, pictureHeight))
	for y := range pictureHeight {
		for x := range pictureWidth {
			m.SetRGBA(x, y, pixel(n, x, y))
		}
	}
	var b bytes.Buffer
	err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 80})
	return b.Bytes(), err
}

func pixel(n, x, y int) color.RGBA {
	const bits, bar, horizon, furrow = 20, pictureWidth / 20, 90, 24
	switch {
	case y < 10 && x/bar < bits && n>>(bits-1-x/bar)&1 == 1:
		return color.RGBA{255, 255, 255, 255}
	case y < 10:
		return color.RGBA{0, 0, 0, 255}
	case y < horizon:
		return color.RGBA{uint8(90 + y), uint8(150 + y/2), 235, 255}
	}
	// Furrows that run towards whoever flies over them.
	depth := (y-horizon)*(y-horizon)/40 + 1
	row := (pictureHeight*40/depth + n*3) / furrow
	shade := uint8(40 * (row & 1))
	if (x-pictureWidth/2)*20/(y-horizon+20)%4 == 0 {
		shade += 25
	}
	return color.RGBA{uint8(70 + int(shade)), uint8(110 + int(shade)/2), 50, 255}
}
