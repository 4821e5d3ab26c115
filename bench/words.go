package main

import (
	"math/rand/v2"
	"strings"
)

// prose makes text that compresses like people's: words of a vocabulary, few of
// them often and most of them seldom. The same seed gives the same text.
type prose struct {
	*rand.Rand
	words []string
	often *rand.Zipf
}

const vocabulary = 6000

func newProse(seed uint64) *prose {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same data every time is the point
	p := &prose{Rand: r, often: rand.NewZipf(r, 1.15, 4, vocabulary-1)}
	syllables := strings.Fields("an ba cor de el fi gra ho in ja ka lo mer ni or pa qui re sol ta un ver wi ya zu bre chi dan est ful gen hal")
	for range vocabulary {
		var word strings.Builder
		for range 1 + r.IntN(4) {
			word.WriteString(syllables[r.IntN(len(syllables))])
		}
		p.words = append(p.words, word.String())
	}
	return p
}

func (p *prose) word() string { return p.words[p.often.Uint64()] }

// sentence appends n words and a full stop.
func (p *prose) sentence(b []byte, n int) []byte {
	for i := range n {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, p.word()...)
	}
	return append(b, '.')
}

// uuid appends a random UUID.
func (p *prose) uuid(b []byte) []byte {
	const digits = "0123456789abcdef"
	for i := range 36 {
		switch i {
		case 8, 13, 18, 23:
			b = append(b, '-')
		case 14:
			b = append(b, '4')
		case 19:
			b = append(b, digits[8+p.IntN(4)])
		default:
			b = append(b, digits[p.IntN(16)])
		}
	}
	return b
}

func (p *prose) pick(from ...string) string { return from[p.IntN(len(from))] }
