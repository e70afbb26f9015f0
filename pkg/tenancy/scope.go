package tenancy

import (
	"context"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

const (
	// goodFor is how long an answer is taken for true before it is asked for
	// again. The authorizer has a cache of its own.
	goodFor = 5 * time.Second
	// askRate is how many questions a second one scope may cost for namespaces
	// that the user may not see: where there are many, they are asked for less
	// often. So somebody loses a namespace within seconds always, and gains one
	// within seconds where there are up to a hundred.
	askRate = 20
	// slack is how much older than that an answer may be for a watch. It is asked
	// for in the background; but not if nobody watched for a while.
	slack = 2 * againInterval
	// markLimit is how long a list waits for a revision.
	markLimit = time.Second
)

// everywhere is the place of the answer that makes all others needless: that
// the user may see all that the request is about.
const everywhere = ""

// answer is what the authorizer said.
type answer struct {
	yes   bool
	asked time.Time
}

// scope is what one user may see of one resource, as far as anybody asked.
type scope struct {
	access  *Access
	key     string
	request Request

	// Guarded by the access's mu.
	users int
	used  time.Time

	// asking is held by the one who asks: however often a user lists, there is
	// one question at a time, and those who wait share its answer.
	asking chan struct{}

	mu           sync.RWMutex
	answers      map[string]answer // by namespace
	visibilities map[*Visibility]struct{}
	// since is the revision since which no answer has changed; 0 if there is no
	// such revision.
	since uint64
	// unmarked is when there was last no revision to be had for it.
	unmarked time.Time
	// failing is when the authorizer began not to answer, or zero.
	failing time.Time
}

func newScope(a *Access, key string, r Request) *scope {
	return &scope{
		access: a, key: key, request: r,
		asking:  make(chan struct{}, 1),
		answers: map[string]answer{}, visibilities: map[*Visibility]struct{}{},
	}
}

// setUser keeps the newest credentials of the user.
func (s *scope) setUser(u user.Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.request.User = u
}

func (s *scope) user() user.Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.request.User
}

// vouch has a revision issued, if there is none from which on the answers are
// known. Without one lists go on, and watches have to begin with a list.
func (s *scope) vouch(ctx context.Context) {
	if s.request.Namespace != "" || !s.begin(ctx) {
		return
	}
	defer s.end()
	s.mark(ctx)
}

// mark is vouch for the one who asks.
func (s *scope) mark(ctx context.Context) {
	s.mu.RLock()
	known, now := s.since != 0, s.access.clock.Now()
	recently := !s.unmarked.IsZero() && now.Sub(s.unmarked) < goodFor
	s.mu.RUnlock()
	if known || recently {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, markLimit)
	defer cancel()
	revision, err := s.access.revision(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unmarked = (time.Time{}); err != nil {
		s.unmarked = now
		return
	}
	s.since = revision
}

// begin is false if ctx ends first.
func (s *scope) begin(ctx context.Context) bool {
	select {
	case s.asking <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *scope) end() { <-s.asking }

// answer returns whether the namespace may be seen, and asks if that is not
// known, or has been due for longer than the slack.
func (s *scope) answer(ctx context.Context, namespace string, slack time.Duration) (bool, error) {
	known := func() (a answer, ok bool) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		a, ok = s.answers[namespace]
		return a, ok && !s.due(namespace, a, slack)
	}
	if a, ok := known(); ok {
		return a.yes, nil
	}
	if !s.begin(ctx) {
		return false, ctx.Err()
	}
	defer s.end()
	if a, ok := known(); ok {
		return a.yes, nil
	}
	return s.ask(ctx, namespace)
}

// due tells whether an answer is to be asked for again. The caller holds mu.
func (s *scope) due(namespace string, a answer, slack time.Duration) bool {
	age := s.access.clock.Since(a.asked) - slack
	if a.yes || namespace == everywhere {
		return age >= goodFor
	}
	return age >= max(goodFor, time.Duration(len(s.answers))*time.Second/askRate)
}

// ask asks, and draws the conclusions.
func (s *scope) ask(ctx context.Context, namespace string) (bool, error) {
	now := s.access.clock.Now()
	var yes bool
	var err error
	r := s.request
	if r.User = s.user(); namespace == everywhere {
		yes, err = s.access.whole(ctx, r)
	} else {
		yes, err = s.access.ask(ctx, authorizer.AttributesRecord{
			User: r.User, Verb: "get", Namespace: namespace,
			APIGroup: r.Resource.Group, Resource: r.Resource.Resource,
		})
	}
	s.mu.Lock()
	if err != nil {
		if s.failing.IsZero() && ctx.Err() == nil {
			s.failing = now
		}
		s.mu.Unlock()
		return false, err
	}
	s.failing = time.Time{}
	old, known := s.answers[namespace]
	if known && old.yes != yes {
		s.since = 0
		s.endVisibilities(changed(r))
		if namespace == everywhere {
			clear(s.answers)
		}
	}
	s.answers[namespace] = answer{yes: yes, asked: now}
	s.mu.Unlock()
	if known && old.yes != yes && r.Namespace == "" {
		s.mark(ctx)
	}
	return yes, nil
}

// join lets the visibility know what is known, and when that changes.
func (s *scope) join(visibility *Visibility) {
	s.mu.Lock()
	defer s.mu.Unlock()
	visibility.all, visibility.since = s.answers[everywhere].yes, s.since
	if visibility.watching {
		s.visibilities[visibility] = struct{}{}
	}
}

func (s *scope) leave(visibility *Visibility) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.visibilities, visibility)
}

// endVisibilities ends all watches. The caller holds mu.
func (s *scope) endVisibilities(cause error) {
	for visibility := range s.visibilities {
		visibility.end(cause)
	}
	clear(s.visibilities)
}
