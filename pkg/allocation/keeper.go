package allocation

import "context"

// Keeper looks after records in the background.
type Keeper struct{ p *Protocol }

// NewKeeper returns a Keeper that does nothing until it runs.
func NewKeeper(p *Protocol) *Keeper { return &Keeper{p: p} }

// Run keeps until ctx ends. Only the active server runs it.
func (k *Keeper) Run(ctx context.Context) { <-ctx.Done() }

// Nudge makes the Keeper look soon, e.g. because an object has changed.
func (k *Keeper) Nudge() {}
