// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
)

var errNotConfirmed = errors.New("not confirmed: nothing was sent")

// confirm asks a question, which the expected answers confirm. With assumeYes, it does not ask.
func (s *session) confirm(ctx context.Context, assumeYes bool, question string, expected ...string) error {
	if assumeYes {
		return nil
	}
	question = clean(question)
	if !s.Interactive {
		return fmt.Errorf("nothing was sent: the input is no terminal, and this has to be confirmed, or --yes given: %s", question)
	}
	fmt.Fprint(s.ErrOut, question+" ")
	answer, err := s.readLine(ctx)
	if err != nil {
		return err
	}
	for _, e := range expected {
		if answer == e {
			return nil
		}
	}
	return errNotConfirmed
}

// confirmAction asks whether to do what stops a running machine.
func (s *session) confirmAction(ctx context.Context, assumeYes bool, question string) error {
	return s.confirm(ctx, assumeYes, question+" [y/N]", "y", "Y", "yes")
}

// confirmName asks for the name of the object, before what cannot be undone.
func (s *session) confirmName(ctx context.Context, assumeYes bool, what string, ref fleet.Reference) error {
	return s.confirm(ctx, assumeYes, fmt.Sprintf("%s: to confirm, type its name, %s:", what, ref.Name), ref.Name)
}

// readLine reads a line, and gives up when ctx ends.
func (s *session) readLine(ctx context.Context) (string, error) {
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(s.In).ReadString('\n')
		read <- line{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", errNotConfirmed
	case l := <-read:
		if l.err != nil && !errors.Is(l.err, io.EOF) {
			return "", l.err
		}
		return strings.TrimSpace(l.text), nil
	}
}
