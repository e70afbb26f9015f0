package tenancy

import (
	"cmp"
	"context"
	"slices"
	"time"

	"k8s.io/client-go/util/workqueue"
)

const (
	// againInterval is how often it is asked again for those who watch.
	againInterval = goodFor
	// againQuestions is how many questions that may be at a time, over all users:
	// 50 a second. Where that is not enough, what was asked the longest time
	// ago comes first; and first of all, what somebody may see.
	againQuestions = 250
	// againWorkers is how many are asked at the same time.
	againWorkers = 8
	// patience is how long watches go on while the authorizer does not answer.
	patience = time.Minute
)

// question is an answer that is due.
type question struct {
	scope     *scope
	namespace string
	answer
}

// Run asks again what those may see who watch, until ctx ends.
func (a *Access) Run(ctx context.Context) {
	tick := a.clock.NewTicker(againInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C():
			a.again(ctx)
		}
	}
}

func (a *Access) again(ctx context.Context) {
	questions := a.due()
	workqueue.ParallelizeUntil(ctx, againWorkers, len(questions), func(i int) {
		questions[i].scope.again(ctx, questions[i].namespace)
	})
	a.forget()
}

// due returns what is to be asked now.
func (a *Access) due() []question {
	a.mu.Lock()
	scopes := make([]*scope, 0, len(a.scopes))
	for _, s := range a.scopes {
		scopes = append(scopes, s)
	}
	a.mu.Unlock()
	var questions []question
	for _, s := range scopes {
		questions = s.appendDue(questions)
	}
	slices.SortFunc(questions, func(x, y question) int {
		if x.urgent() != y.urgent() {
			if x.urgent() {
				return -1
			}
			return 1
		}
		return cmp.Or(x.asked.Compare(y.asked), cmp.Compare(x.namespace, y.namespace))
	})
	return questions[:min(len(questions), againQuestions)]
}

// urgent is what somebody sees who might not see it any more.
func (q question) urgent() bool { return q.yes || q.namespace == everywhere }

func (s *scope) appendDue(questions []question) []question {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.visibilities) == 0 {
		return questions
	}
	for namespace, a := range s.answers {
		if s.due(namespace, a, 0) {
			questions = append(questions, question{s, namespace, a})
		}
	}
	return questions
}

// again asks again, if that is still due.
func (s *scope) again(ctx context.Context, namespace string) {
	if !s.begin(ctx) {
		return
	}
	defer s.end()
	s.mu.RLock()
	a, known := s.answers[namespace]
	due := known && len(s.visibilities) > 0 && s.due(namespace, a, 0)
	s.mu.RUnlock()
	if !due {
		return
	}
	if _, err := s.ask(ctx, namespace); err != nil && ctx.Err() == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.access.clock.Since(s.failing) >= patience {
			s.endVisibilities(undecided(ctx, s.request, err))
		}
	}
}
