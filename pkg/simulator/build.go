// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// build fills the store from the inventory.
func (s *Simulator) build(d *DataCentre) error {
	s.cat = &catalogue{partitions: map[string]*wire.Partition{}, sizes: map[string]*wire.Size{}, images: map[string]*wire.Image{}}
	for _, t := range d.Tenants {
		s.addTenant(t, s.instant())
	}
	for _, p := range d.Projects {
		if _, ok := s.tenants[p.Tenant]; !ok {
			return fmt.Errorf("project %s: no tenant %q", p.ID, p.Tenant)
		}
		s.buildProject(p)
	}
	for _, p := range d.Partitions {
		s.buildPartition(p)
	}
	for _, z := range d.Sizes {
		s.buildSize(z)
	}
	for _, i := range d.Images {
		s.buildImage(i)
	}
	for _, l := range d.FilesystemLayouts {
		s.cat.layouts = append(s.cat.layouts, layout(l))
	}
	for _, n := range d.Networks {
		if _, ok := s.cat.partitions[n.Partition]; !ok && n.Partition != "" {
			return fmt.Errorf("network %s: no partition %q", n.ID, n.Partition)
		}
		if _, err := s.addNetwork(n); err != nil {
			return fmt.Errorf("network %s: %w", n.ID, err)
		}
	}
	for _, m := range d.Machines {
		if _, err := s.addMachine(m); err != nil {
			return err
		}
	}
	return nil
}

func (s *Simulator) buildProject(p Project) {
	s.addProject(&wire.Meta{ID: p.ID, Annotations: p.Annotations, Labels: p.Labels},
		wire.Project{Name: p.Name, Description: p.Description, TenantID: p.Tenant})
}

func (s *Simulator) buildSize(z Size) {
	now := stored(s.started)
	s.cat.sizes[z.ID] = &wire.Size{
		ID: z.ID, Name: z.Name, Description: z.Description, Labels: orEmpty(z.Labels), Created: now, Changed: now,
		Constraints: []wire.Constraint{
			{Type: "cores", Min: z.MinCores, Max: z.MaxCores},
			{Type: "memory", Min: z.MinMemory, Max: z.MaxMemory},
			{Type: "storage", Min: z.MinStorage, Max: z.MaxStorage},
		},
	}
	for _, g := range z.GPUs {
		s.cat.sizes[z.ID].Constraints = append(s.cat.sizes[z.ID].Constraints,
			wire.Constraint{Type: "gpu", Identifier: g.Model, Min: g.Min, Max: g.Max})
	}
	s.cat.sizeIDs = append(s.cat.sizeIDs, z.ID)
	s.hardware(z)
}

func (s *Simulator) buildPartition(p Partition) {
	now := stored(s.started)
	w := &wire.Partition{
		ID: p.ID, Name: p.Name, Description: p.Description, Labels: orEmpty(p.Labels), Created: now, Changed: now,
		DNSServers: []wire.DNSServer{}, NTPServers: []wire.NTPServer{},
		BootConfig: wire.BootConfig{
			ImageURL:    or(p.ImageURL, "https://images.example/hammer-initrd.img.lz4"),
			KernelURL:   or(p.KernelURL, "https://images.example/hammer-kernel"),
			CommandLine: or(p.CommandLine, "console=ttyS0,115200n8"),
		},
	}
	for _, d := range orList(p.DNSServers, "9.9.9.9") {
		w.DNSServers = append(w.DNSServers, wire.DNSServer{IP: d})
	}
	for _, n := range orList(p.NTPServers, "0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org") {
		w.NTPServers = append(w.NTPServers, wire.NTPServer{Address: n})
	}
	s.cat.partitions[p.ID] = w
	s.cat.partitionIDs = append(s.cat.partitionIDs, p.ID)
	for _, r := range p.Racks {
		s.rack(p.ID, r)
	}
}

func (s *Simulator) buildImage(i Image) {
	now := stored(s.started)
	days := i.ExpiresInDays
	if days == 0 {
		days = 90
	}
	s.cat.images[i.ID] = &wire.Image{
		ID: i.ID, Name: or(i.Name, i.ID), Description: or(i.Description, "image "+i.ID),
		URL:      or(i.URL, "https://images.example/"+i.ID+"/img.tar.lz4"),
		Features: i.Features, Classification: or(i.Classification, "supported"),
		ExpirationDate: now.AddDate(0, 0, days), Created: now, Changed: now,
	}
	s.cat.imageIDs = append(s.cat.imageIDs, i.ID)
}

// layout is the usual one: EFI, root, /var/lib, and a /tmp in memory (037).
func layout(l FilesystemLayout) *wire.FilesystemLayout {
	part := or(l.Partition, l.Device)
	label := func(s string) *string { return &s }
	return &wire.FilesystemLayout{
		ID: l.ID, Description: or(l.Description, "layout "+l.ID),
		Filesystems: []wire.Filesystem{
			{Path: "/boot/efi", Device: part + "1", Format: "vfat", Label: label("efi"), MountOptions: []string{}, CreateOptions: []string{"-F", "32"}},
			{Path: "/", Device: part + "2", Format: "ext4", Label: label("root"), MountOptions: []string{}, CreateOptions: []string{}},
			{Path: "/var/lib", Device: part + "3", Format: "ext4", Label: label("varlib"), MountOptions: []string{}, CreateOptions: []string{}},
			{
				Path: "/tmp", Device: "tmpfs", Format: "tmpfs",
				MountOptions:  []string{"defaults", "noatime", "nosuid", "nodev", "noexec", "mode=1777", "size=512M"},
				CreateOptions: []string{},
			},
		},
		Disks: []wire.Disk{{
			Device: l.Device, WipeOnReinstall: !l.Keep,
			Partitions: []wire.DiskPartition{
				{Number: 1, Label: "efi", Size: 500, GPTType: "ef00"},
				{Number: 2, Label: "root", Size: 5000, GPTType: "8300"},
				{Number: 3, Label: "varlib", GPTType: "8300"},
			},
		}},
		Constraints: wire.LayoutConstraints{Sizes: l.Sizes, Images: l.Images},
	}
}

// hardware remembers what machines of a size are made of.
func (s *Simulator) hardware(z Size) {
	h := z.Hardware
	if h.Memory == 0 {
		h = SizeHardware{
			Memory: 4 << 30, Vendor: "GenuineIntel", CPU: "Intel Xeon E3-1270", Cores: 4, Threads: 8,
			Disks: []string{"/dev/sda"}, DiskSize: 64 << 30,
		}
	}
	if s.cat.hardware == nil {
		s.cat.hardware = map[string]SizeHardware{}
	}
	s.cat.hardware[z.ID] = h
}

// rack gives a rack its two leaf switches, if it has none yet, and returns its
// number within the partition, from 1.
func (s *Simulator) rack(partition, rack string) int {
	number := 0
	for _, sw := range s.cat.switches {
		if sw.Partition.ID != partition {
			continue
		}
		number++
		if sw.RackID == rack {
			return (number + 1) / 2
		}
	}
	now := stored(s.started)
	for leaf := 1; leaf <= 2; leaf++ {
		id := fmt.Sprintf("leaf%02d", len(s.cat.switches)+1)
		sw := &wire.Switch{
			ID: id, Name: id, RackID: rack, Partition: *s.cat.partitions[partition], Connections: []wire.SwitchConnection{},
			OS: wire.SwitchOS{Vendor: "SONiC", Version: "11", MetalCoreVersion: "v0.9.0"}, Created: now, Changed: now,
		}
		for port := 1; port <= 16; port++ {
			name := fmt.Sprintf("Ethernet%d", 4*port)
			sw.Nics = append(sw.Nics, wire.SwitchNic{MAC: leafMAC(number/2+1, leaf, port), Name: name, Identifier: name, Actual: "UNKNOWN"})
		}
		slices.SortFunc(sw.Nics, func(a, b wire.SwitchNic) int { return compare(a.Name, b.Name) })
		s.cat.switches = append(s.cat.switches, sw)
	}
	return number/2 + 1
}

func leafMAC(rack, leaf, port int) string {
	return fmt.Sprintf("02:aa:%02x:%02x:%02x:%02x", rack&0xff, leaf, rack>>8, port)
}

func (s *Simulator) number(m *Machine) {
	if m.Number == 0 {
		m.Number = len(s.order) + 1
	}
	if m.Port == 0 {
		m.Port = (m.Number-1)%16 + 1
	}
	if m.Chassis == "" {
		m.Chassis = fmt.Sprintf("chassis-%d", m.Number)
	}
}

// addMachine puts a machine into the data centre and lets it get to where it starts.
func (s *Simulator) addMachine(d Machine) (*node, error) {
	if d.ID == "" {
		d.ID = s.newUUID()
	}
	if n, ok := s.machines[d.ID]; ok && n.m != nil {
		return nil, fmt.Errorf("machine %s is there already", d.ID)
	}
	s.number(&d)
	now := s.clock.Now()
	n := s.nodeFor(d.ID, now)
	n.spec = d
	if d.State == MachineGhost {
		n.m.partition = d.Partition
		n.m.led.Value = "LED-OFF"
		return n, nil
	}
	s.emit(n, eventPXEBooting, "machine sent extended dhcp request", now)
	if d.State == MachineBooting {
		return n, nil
	}
	if err := s.equip(n.m, d); err != nil {
		s.dropNode(n)
		return nil, fmt.Errorf("machine %s: %w", d.ID, err)
	}
	s.emit(n, eventPreparing, "metal-hammer started", now)
	s.emit(n, eventRegistering, "registering machine", now)
	if d.State == MachineRegistered {
		return n, nil
	}
	s.wait(n, now)
	return n, nil
}

// equip gives a machine what the metal-hammer registers.
func (s *Simulator) equip(m *machine, d Machine) error {
	h, ok := s.cat.hardware[d.Size]
	if !ok {
		return fmt.Errorf("no size %q", d.Size)
	}
	if _, ok := s.cat.partitions[d.Partition]; !ok {
		return fmt.Errorf("no partition %q", d.Partition)
	}
	rack := s.rack(d.Partition, d.Rack)
	m.partition, m.size, m.rack, m.chassis = d.Partition, d.Size, d.Rack, d.Chassis
	hi, lo := d.Number>>8&0xff, d.Number&0xff
	hw := &wire.Hardware{Memory: h.Memory, CPUs: []wire.CPU{{Vendor: h.Vendor, Model: h.CPU, Cores: h.Cores, Threads: h.Threads}}}
	for _, disk := range h.Disks {
		hw.Disks = append(hw.Disks, wire.BlockDevice{Name: disk, Size: h.DiskSize})
	}
	for lan := 1; lan <= 2; lan++ {
		mac := fmt.Sprintf("02:bb:%02x:%02x:%02x:%02x", d.Number>>16&0xff, hi, lo, lan)
		neighbour := fmt.Sprintf("Ethernet%d", 4*d.Port)
		hw.Nics = append(hw.Nics, wire.Nic{MAC: mac, Name: fmt.Sprintf("lan%d", lan-1), Identifier: mac, Neighbors: []wire.Nic{
			{MAC: leafMAC(rack, lan, d.Port), Name: neighbour, Identifier: neighbour, Neighbors: []wire.Nic{}},
		}})
	}
	m.hardware = hw
	m.bios = wire.BIOS{Version: "2.1", Vendor: "American Megatrends", Date: "2023-01-01"}
	m.state.MetalHammerVersion = "v0.13.0" // what else it says stays (2/287)
	m.ipmi = wire.IPMI{
		Address: fmt.Sprintf("10.255.%d.%d:623", hi, lo), MAC: fmt.Sprintf("02:bb:%02x:%02x:%02x:09", d.Number>>16&0xff, hi, lo),
		User: "metal", Password: "not-a-secret", Interface: "lanplus", BMCVersion: "1.2", PowerState: "ON",
		FRU: wire.FRU{
			ChassisPartNumber: fmt.Sprintf("CPN-%d", d.Number), ChassisPartSerial: d.Chassis, BoardMfg: "Supermicro",
			BoardPartNumber: "X11", ProductSerial: fmt.Sprintf("PS-%d", d.Number),
		},
		LastUpdated: stored(s.clock.Now()),
	}
	return nil
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func orList(l []string, def ...string) []string {
	if len(l) == 0 {
		return def
	}
	return l
}
