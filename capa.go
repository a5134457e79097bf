package pop3

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Limits on a capability or language list.
const (
	maxCapabilities = 1024
	maxListOctets   = 64 << 10
)

// Capabilities is the response to CAPA (RFC 2449). It maps the name of each capability, in upper case, to its
// parameters in the order listed, or to nil if the capability is listed without parameters.
type Capabilities map[string][]string

// Has reports whether a capability is listed. The name is matched case-insensitively.
func (c Capabilities) Has(name string) bool {
	_, ok := c[strings.ToUpper(name)]
	return ok
}

// hasMechanism reports whether a SASL mechanism is listed.
func (c Capabilities) hasMechanism(name string) bool {
	return slices.ContainsFunc(c["SASL"], func(m string) bool { return strings.EqualFold(m, name) })
}

func (c Capabilities) clone() Capabilities {
	d := make(Capabilities, len(c))
	for name, params := range c {
		d[name] = slices.Clone(params)
	}
	return d
}

// A Language is a language that the server can use for the text of its responses (RFC 6856, section 3).
type Language struct{ Tag, Description string }

// Capabilities returns the server's capabilities, sending CAPA unless they are cached. The cache is cleared by STLS and
// by a successful login, after which servers list more. If the server refuses CAPA, the set is empty.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	if caps := c.cachedCapabilities(); caps != nil {
		if err := c.s.err(); err != nil {
			return nil, notSent("CAPA", err)
		}
		return caps.clone(), nil
	}
	return c.RefreshCapabilities(ctx)
}

// RefreshCapabilities sends CAPA and updates the cache.
func (c *Client) RefreshCapabilities(ctx context.Context) (Capabilities, error) {
	var caps Capabilities
	err := c.s.do(ctx, "CAPA", func(h *lease) (err error) {
		caps, err = c.askCapabilities(h)
		return err
	})
	return caps.clone(), err
}

func (c *Client) cachedCapabilities() Capabilities {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.caps
}

// setCapabilities caches capabilities, or clears the cache. refused is the error of a CAPA that the server refused.
func (c *Client) setCapabilities(caps Capabilities, refused error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.caps, c.refusedCapa = caps, refused
}

// refusedCapabilities returns why the server lists nothing, if it refused CAPA.
func (c *Client) refusedCapabilities() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusedCapa
}

// knownCapabilities returns the cached capabilities, or sends CAPA under the lease h.
func (c *Client) knownCapabilities(h *lease) (Capabilities, error) {
	if caps := c.cachedCapabilities(); caps != nil {
		return caps, nil
	}
	return c.askCapabilities(h)
}

func (c *Client) askCapabilities(h *lease) (Capabilities, error) {
	caps := Capabilities{}
	_, err := c.askLines(h, "CAPA", func(line string) {
		words := strings.Fields(line)
		if len(words) > 0 {
			name := strings.ToUpper(words[0])
			caps[name] = append(caps[name], words[1:]...) // a capability may be listed on several lines
		}
	})
	if err != nil && !isServerError(err) {
		return nil, err
	}
	c.setCapabilities(caps, err)
	return caps, nil
}

// askLines sends a command with a short multi-line response and calls each with its lines.
func (c *Client) askLines(h *lease, command string, each func(line string)) (text string, err error) {
	if text, err = c.s.ask(h, command, command); err != nil {
		return "", err
	}
	var octets int64
	for n := 0; ; n++ {
		line, err := c.s.conn.line()
		if err != nil {
			return "", c.s.fail(h, err)
		}
		c.s.conn.received(string(line))
		if string(line) == "." {
			h.event.Octets = octets
			return text, nil
		}
		if n == maxCapabilities {
			return "", c.s.fail(h, &ProtocolError{Reason: fmt.Sprintf("more than %d lines", maxCapabilities)})
		}
		if octets += int64(len(line)) + 2; octets > maxListOctets {
			return "", c.s.fail(h, &ProtocolError{Reason: fmt.Sprintf("more than %d octets", maxListOctets)})
		}
		if len(line) > 1 && line[0] == '.' && line[1] == '.' {
			line = line[1:]
		}
		each(string(line))
	}
}

// UTF8 asks the server to send messages with internationalized headers unchanged (RFC 6856, section 2).
func (c *Client) UTF8(ctx context.Context) error {
	_, err := c.s.cmd(ctx, "UTF8")
	return err
}

// Lang selects the language of the text in responses; "*" is the server's default (RFC 6856, section 3).
func (c *Client) Lang(ctx context.Context, tag string) error {
	if tag == "" {
		return c.s.refused(ctx, invalidArgument("LANG", "empty language tag"))
	}
	_, err := c.Cmd(ctx, "LANG", tag)
	return err
}

// Langs returns the languages that Lang accepts.
func (c *Client) Langs(ctx context.Context) ([]Language, error) {
	var langs []Language
	err := c.s.do(ctx, "LANG", func(h *lease) error {
		_, err := c.askLines(h, "LANG", func(line string) {
			if tag, description, _ := strings.Cut(line, " "); tag != "" {
				langs = append(langs, Language{tag, description})
			}
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return langs, nil
}
