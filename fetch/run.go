package fetch

import (
	"context"
	"errors"

	"github.com/seed-5b1d5243/pop3"
)

func (f *Fetcher) run(ctx context.Context) (Report, error) {
	return Report{}, errors.ErrUnsupported
}

func (f *Fetcher) plan(ctx context.Context, c *pop3.Client) ([]Step, error) {
	return nil, errors.ErrUnsupported
}
