// SPDX-License-Identifier: Apache-2.0

package render

// Node is a node of a tree that is printed as the first column of a table.
type Node struct {
	Text string
	// Cells are those of the other columns; a node without any is a heading.
	Cells    []Cell
	Children []Node
}

// Tree returns the rows of trees.
func Tree(roots []Node) []Row {
	var rows []Row
	for _, root := range roots {
		rows = append(rows, rowOf(root, ""))
		rows = append(rows, branches(root.Children, "")...)
	}
	return rows
}

func branches(nodes []Node, indent string) []Row {
	var rows []Row
	for i, node := range nodes {
		branch, below := "├─ ", "│  "
		if i == len(nodes)-1 {
			branch, below = "└─ ", "   "
		}
		rows = append(rows, rowOf(node, indent+branch))
		rows = append(rows, branches(node.Children, indent+below)...)
	}
	return rows
}

func rowOf(n Node, prefix string) Row {
	if len(n.Cells) == 0 {
		return Row{Prefix: prefix, Group: n.Text}
	}
	return Row{Prefix: prefix, Cells: append([]Cell{{Text: n.Text}}, n.Cells...)}
}
