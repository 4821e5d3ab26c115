// Package paging says which slice of a list is wanted.
package paging

// Limits of a page.
const (
	DefaultLimit = 20
	MaxLimit     = 100
)

// Page is one slice of a list. The zero value is the first page of DefaultLimit rows.
type Page struct {
	Number int // from 1
	Limit  int // rows, at most MaxLimit
}

// Normal returns p with its defaults filled in and its limits kept.
func (p Page) Normal() Page {
	if p.Number < 1 {
		p.Number = 1
	}
	if p.Limit < 1 {
		p.Limit = DefaultLimit
	}
	p.Limit = min(p.Limit, MaxLimit)
	return p
}

// Offset returns how many rows come before the page.
func (p Page) Offset() int {
	p = p.Normal()
	return (p.Number - 1) * p.Limit
}

// Pages returns how many pages total rows make.
func (p Page) Pages(total int) int {
	limit := p.Normal().Limit
	return (total + limit - 1) / limit
}
