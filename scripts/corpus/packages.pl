#!/usr/bin/perl
# apt's English package descriptions (Translation-en) on standard input -> documents of plain text:
# one description each, one paragraph a line, a blank line between them. A paragraph that several
# packages of one source share is kept once.
use strict;
use warnings;

my (%seen, @paragraphs, $in_description);

sub emit {
  my @out;
  foreach my $p (@paragraphs) {
    (my $s = $p) =~ s/\s+/ /g;
    $s =~ s/^ | $//g;
    push @out, $s if length $s > 2 && !$seen{$s}++;
  }
  print join("\n", @out), "\n\n" if @out > 1;
  @paragraphs = ();
}

while (my $line = <STDIN>) {
  chomp $line;
  if ($line =~ /^Description-en: (.*)/) {
    $in_description = 1;
    @paragraphs = ($1, '');
  } elsif ($line =~ /^\S/ || $line eq '') {
    emit() if $in_description;
    $in_description = 0;
  } elsif ($in_description) {
    if ($line =~ /^ \.$/) { push @paragraphs, '' }
    elsif ($line =~ /^  +\S|^ +[-*o+] /) { push @paragraphs, $line } # a list or verbatim line
    else { $paragraphs[-1] .= " $line" }
  }
}
emit() if $in_description;
