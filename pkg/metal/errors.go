package metal

// Kind tells what a failed call means for metal: not the HTTP status, which
// the metal-api uses for everything (422 is a refusal and an outage alike).
type Kind string

const (
	// Refused: the metal-api decided against it; nothing was changed.
	Refused Kind = "Refused"
	// NotFound: what was asked for is not known. For machines this proves
	// nothing (a machine without an event container answers it too).
	NotFound Kind = "NotFound"
	// Conflict: somebody else changed it, or holds it.
	Conflict Kind = "Conflict"
	// Busy: too much at once; nothing was changed; try again later.
	Busy Kind = "Busy"
	// Uncertain: it may have been done.
	Uncertain Kind = "Uncertain"
	// Unavailable: the metal-api or one of its backends does not answer, and
	// the call changed nothing because it was a read or never arrived.
	Unavailable Kind = "Unavailable"
)

// Error is what every method of the port returns when it fails.
type Error struct {
	Kind Kind
	// Op is the operation, e.g. "machine allocate".
	Op string
	// Message is the metal-api's own words, or the transport's.
	Message string
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Err is the cause; it never holds a request's body.
	Err error
}

// Error implements error.
func (e *Error) Error() string { return "metal-api: " + e.Op + ": " + e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
