package tool

// TableLines is how many tables of a dump get a line of their own. Of those that
// follow, progress says enough: a hundred thousand tables would drown what matters.
const TableLines = 200
