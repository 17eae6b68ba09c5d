#!/usr/bin/perl
# usage: dict.pl FIRST < DICTIONARY
# A dictionary in dict format on standard input -> documents of plain text: one entry each, one
# paragraph a line, a blank line between entries. FIRST: a regular expression; what stands before
# the first line that matches it (licence, history) is left out. So are pronunciations, etymologies
# and source marks such as [1913 Webster].
use strict;
use warnings;

# [a^], [=e], ['e], [imac], [ae] ... are accented letters in ASCII; the plain letter is kept.
my %letters = (ae => 'ae', AE => 'AE', oe => 'oe', OE => 'OE', '=ae' => 'ae', "'ae" => 'ae',
  th => 'th', eth => 'th', thorn => 'th', ng => 'ng', yogh => 'g', imac => 'i', aum => 'a',
  oum => 'o', uum => 'u', eum => 'e', add => 'th', asl => 'a', udd => 'u', deg => ' degrees',
  '=oo' => 'oo', 'oo^' => 'oo', ',c' => 'c', root => '', sect => 'section ', dsdot => 's');

sub plain {
  my ($s) = @_;
  $s =~ s/\[([^\[\]\s]{1,5})\]/exists $letters{$1} ? $letters{$1}
      : $1 =~ m{^[^A-Za-z]([A-Za-z])$} || $1 =~ m{^([A-Za-z])[^A-Za-z.]$} ? $1 : "[$1]"/ge;
  return $s;
}

sub clean {
  my ($s) = @_;
  $s =~ s/\s+/ /g;
  $s = plain($s);
  $s =~ s/\s*\[[^\[\]]*(?:Webster|WordNet|PJC|Century Dict|RHUD|RH|AS|CIA|Wiki|MI11|Stedman)[^\[\]]*\]//g;
  $s =~ s/ ?\[(?:root|=?\?|\d+|R\.)\]//g;
  $s =~ s/ ?\(?https?:[^\s)]*\)?//g;
  $s =~ tr/{}//d;
  $s =~ s/^((?:\d+\. )?) ?<([\w ,]+)>/$1($2)/;
  $s =~ s/[^\x20-\x7e]+//g;
  $s =~ s/^ +| +$//g;
  $s =~ s/  +/ /g;
  return $s;
}

# "Lark \Lark\ (l[aum]rk), n. [Perh fr. AS. ...] (Mus.)" -> "Lark, n. (Mus.)"
sub heading {
  my ($s) = @_;
  $s =~ s/\s+/ /g;
  $s = plain($s);
  $s =~ s/ ?\\[^\\]*\\//g;
  $s =~ s/ \([^()]*["'`*\[\]^][^()]*\)//g;
  1 while $s =~ s/ ?\[[^\[\]]*\]//g;
  $s =~ s/ ?\[[^\[\]]*$//;
  $s =~ s/ ?;? pl\. .*$//;
  $s =~ s/%%%.*//;
  return clean($s);
}

sub emit {
  my ($entry) = @_;
  my ($head, @paragraphs) = @$entry;
  $head = heading($head);
  @paragraphs = grep { length > 2 && !/^\([-\d]+\)$/ } map { clean($_) } @paragraphs;
  return if $head eq '' || !@paragraphs;
  print "$head\n", map({ "$_\n" } @paragraphs), "\n";
}

my $first = $ARGV[0];
my ($entry, $started, $in_head, $fresh, $bracket) = (undef, 0, 0, 1, 0);
while (my $line = <STDIN>) {
  $line =~ s/\s+$//;
  $started ||= $line =~ /$first/;
  next unless $started;
  if ($line eq '') {
    $fresh = 1;
    $in_head = 0;
  } elsif ($line =~ /^\S/) {
    emit($entry) if $entry;
    $entry = [$line];
    $in_head = 1;
    $bracket = ($line =~ tr/[//) - ($line =~ tr/]//);
    $fresh = 1;
  } elsif ($in_head && $bracket > 0) {
    $entry->[0] .= " $line";
    $bracket += ($line =~ tr/[//) - ($line =~ tr/]//);
  } elsif ($in_head && $line =~ /^ +\([^)]*\)$/) {
    $entry->[0] .= " $line";
  } else {
    $in_head = 0;
    # A numbered or lettered sense starts its own line, as does each paragraph.
    if ($fresh || $line =~ /^ +(?:\d+\.|\([a-z]\)) /) { push @$entry, $line; $fresh = 0; }
    else { $entry->[-1] .= " $line" }
  }
}
emit($entry) if $entry;
