package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Supported tells what keeps Mobula from working on this system.
func Supported() error {
	var problems []error
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		problems = append(problems, errors.New("init system: found another one, wanted systemd"))
	}
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return errors.Join(append(problems, fmt.Errorf("operating system: %w", err))...)
	}
	return errors.Join(append(problems, supportedRelease(string(data)))...)
}

// oldest is the oldest supported release by the ID of os-release(5).
var oldest = map[string]float64{"debian": 12, "ubuntu": 22.04, "rhel": 9, "centos": 9, "rocky": 9, "almalinux": 9}

func supportedRelease(osRelease string) error {
	field := map[string]string{}
	for _, line := range strings.Split(osRelease, "\n") {
		if name, value, ok := strings.Cut(line, "="); ok {
			field[name] = strings.Trim(value, `"'`)
		}
	}
	const want = "Debian 12, Ubuntu 22.04, RHEL 9 or a later one"
	for _, id := range append([]string{field["ID"]}, strings.Fields(field["ID_LIKE"])...) {
		least, known := oldest[id]
		if !known {
			continue
		}
		version, err := strconv.ParseFloat(field["VERSION_ID"], 64)
		if id == field["ID"] && (err != nil || version < least) {
			return fmt.Errorf("operating system: found %s, wanted %s", field["PRETTY_NAME"], want)
		}
		return nil
	}
	return fmt.Errorf("operating system: found %s, wanted %s", field["PRETTY_NAME"], want)
}

// program is one that another package brings, with the name that Debian gives the package.
type program struct{ name, pkg string }

var required = []program{{"ovs-vswitchd", "openvswitch-switch"}, {"nft", "nftables"}}

// missing returns the required programs that are not there.
func missing() (all []program) {
	for _, p := range required {
		if _, err := exec.LookPath(p.name); err != nil {
			all = append(all, p)
		}
	}
	return all
}

// MissingPackages returns what has to be installed first, by Debian's names.
func MissingPackages() (names []string) {
	for _, p := range missing() {
		names = append(names, p.pkg)
	}
	return names
}

// Brought tells which programs are missing where the operator brings their packages.
func Brought() error {
	var problems []error
	for _, p := range missing() {
		problems = append(problems, fmt.Errorf("%s: found none, wanted its package (%s on Debian) to be installed already, as mobula_packages says", p.name, p.pkg))
	}
	return errors.Join(problems...)
}
