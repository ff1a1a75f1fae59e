package media

import "context"

type inbox struct{ c *camera }

func newInbox(c *camera) *inbox { return &inbox{c} }

func (*inbox) run(ctx context.Context) error { <-ctx.Done(); return nil }
