// Package netlock closes every network way out of a board.
package netlock
